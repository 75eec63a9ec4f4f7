//! Invoices (BOLT 11), read before anything is paid.

use std::time::{Duration, SystemTime};

use bitcoin::hashes::{Hash, sha256};
use lightning_invoice::{
    Currency, DEFAULT_EXPIRY_TIME, ExpiryTime, SignedRawBolt11Invoice, TaggedField,
};
use stockade_capability::ErrorName;
use stockade_config::{BitcoinNetwork, Msat};
use stockade_protocol::GuestError;

/// The longest text of an invoice, in bytes.
const MAX_INVOICE: usize = 8 << 10;

/// Millionths of a millionth of a bitcoin in a thousandth of a satoshi.
const PICO_PER_MSAT: u64 = 10;

/// An invoice whose signature is right.
#[derive(Debug, Clone)]
pub(super) struct Invoice {
    /// As it was given, without a scheme.
    pub(super) text: String,
    /// The hash of the payment, in hexadecimal digits.
    pub(super) hash: String,
    /// What it asks for; `None` where the payer chooses.
    pub(super) named: Option<Msat>,
    /// Whether the payer chooses.
    pub(super) is_open: bool,
    /// In seconds since 1970.
    pub(super) expires_at: u64,
}

impl Invoice {
    /// Reads an invoice of this network.
    ///
    /// # Errors
    /// When the text is not one.
    pub(super) fn read(text: &str, network: BitcoinNetwork) -> Result<Self, GuestError> {
        let text = text.trim();
        let text = text
            .strip_prefix("lightning:")
            .or_else(|| text.strip_prefix("LIGHTNING:"))
            .unwrap_or(text);
        let wrong = || ErrorName::Type.error("the text is not a Lightning invoice (BOLT 11)");
        if text.len() > MAX_INVOICE {
            return Err(wrong());
        }
        // What wallets of today demand beyond the signature, such as feature bits, is the wallet's to check.
        let signed: SignedRawBolt11Invoice = text.parse().map_err(|_| wrong())?;
        if !signed.check_signature() {
            return Err(wrong());
        }
        let raw = signed.raw_invoice();
        if raw.currency() != currency(network) {
            let what = "the invoice is of another network than the grant";
            return Err(ErrorName::Type.error(what));
        }
        // With two of them it would be open which one is paid.
        let is_hash = |field: &&TaggedField| matches!(field, TaggedField::PaymentHash(_));
        let hashes = raw.known_tagged_fields().filter(is_hash).count();
        let hash = raw
            .payment_hash()
            .filter(|_| hashes == 1)
            .ok_or_else(wrong)?;
        let named = match raw.amount_pico_btc() {
            Some(pico) if pico.is_multiple_of(PICO_PER_MSAT) => Some(Msat(pico / PICO_PER_MSAT)),
            Some(_) => return Err(wrong()),
            None => None,
        };
        let expiry = raw
            .expiry_time()
            .map_or(DEFAULT_EXPIRY_TIME, ExpiryTime::as_seconds);
        Ok(Self {
            text: text.to_owned(),
            hash: hex(hash.0.as_byte_array()),
            named,
            is_open: named.is_none(),
            expires_at: raw
                .data
                .timestamp
                .as_unix_timestamp()
                .saturating_add(expiry),
        })
    }

    /// What is to be paid: what the invoice names, or what the payer chose.
    pub(super) fn amount(&self, chosen: Option<u64>) -> Result<Msat, GuestError> {
        match (self.named, chosen.map(Msat)) {
            (Some(named), None) => Ok(named),
            (Some(named), Some(chosen)) if named == chosen => Ok(named),
            (Some(named), Some(_)) => Err(ErrorName::Type.error(format!(
                "the invoice asks for {} msat, and no other amount is paid",
                named.0
            ))),
            (None, Some(chosen)) if chosen.0 > 0 => Ok(chosen),
            (None, _) => {
                Err(ErrorName::Type
                    .error("the invoice names no amount: `amount` in msat is needed"))
            }
        }
    }

    /// Whether it can still be paid.
    pub(super) fn check_time(&self, now: SystemTime) -> Result<(), GuestError> {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        if now.as_secs() >= self.expires_at {
            return Err(ErrorName::Type.error("the invoice has expired"));
        }
        Ok(())
    }
}

fn currency(network: BitcoinNetwork) -> Currency {
    match network {
        BitcoinNetwork::Mainnet => Currency::Bitcoin,
        BitcoinNetwork::Testnet | BitcoinNetwork::Testnet4 => Currency::BitcoinTestnet,
        BitcoinNetwork::Signet => Currency::Signet,
        BitcoinNetwork::Regtest => Currency::Regtest,
    }
}

/// Whether a preimage, in hexadecimal digits, is that of a payment's hash.
pub(super) fn proves(preimage: &str, hash: &str) -> bool {
    if !is_hash(preimage) {
        return false;
    }
    let digits = preimage.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.map(byte).collect();
    bytes.is_some_and(|bytes| hex(sha256::Hash::hash(&bytes).as_byte_array()) == hash)
}

/// Whether the text is 32 bytes in hexadecimal digits.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
