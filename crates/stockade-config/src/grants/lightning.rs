//! `lightning`: a wallet that receives, and spends within limits.

use std::path::PathBuf;

use super::GrantSection;
use super::electrum::BitcoinNetwork;
use super::limits::{self, CallLimits, call_limits};
use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{FILE, Format, Key, Kind, NEW, boolean, list, text};
use crate::secret::SecretRef;
use crate::section::{Record, Words, section};
use crate::tree::Message;
use crate::value::from_text;

call_limits! {
    "lightning_limits",
    rate: "10",
    concurrent: "8",
    queue: "32",
    timeout: "90s",
    max_request: "64kb",
    max_result: "256kb",
    handles: None,
}

/// An amount.
const AMOUNT: Format = Format {
    what: "an amount with its unit, as 500sat or 1500msat",
    pattern: Some(r"^[0-9][0-9_]*\s*m?sat$"),
    expect: None,
};

/// The most that a route may cost.
const FEE: Format = Format {
    what: "a share of the payment, an amount, or both, as 1%, 10sat or 1% + 2sat",
    pattern: Some(r"^([0-9.]+\s*%)?(\s*\+\s*)?([0-9][0-9_]*\s*m?sat)?$"),
    expect: None,
};

/// Where an LNbits server is.
const SERVER: Format = Format {
    what: "the URL of a server, as https://lnbits.example",
    pattern: Some(r"^https?://[^/\s]+/?$"),
    expect: None,
};

section! {
    /// A Lightning wallet, by Nostr Wallet Connect (NIP-47) or by LNbits: invoices, and
    /// payments within limits that hold over restarts. It has the names of NWC, and those
    /// of WebLN as `env.NAME.webln`.
    pub struct LightningGrant "lightning" {
        /// A connection to a wallet, `nostr+walletconnect://…` (NIP-47).
        pub nwc: Option<SecretRef> = SecretRef::key() => |grant| SecretRef::of(grant, "nwc"),
        /// A wallet of an LNbits server.
        pub lnbits: Option<LnbitsWallet> = Key::of(LnbitsWallet::KIND) => lnbits,
        /// The network of invoices.
        pub network: BitcoinNetwork = Key::of(BitcoinNetwork::KIND).default("mainnet"),
        /// Allows invoices to be made.
        pub receive: bool = boolean().default("true"),
        /// Allows payments, within these limits. Without it nothing is paid.
        pub spend: Option<Spend> = Key::of(Spend::KIND) => |grant| grant.has("spend").then(|| Spend::read(&grant.section("spend"))),
        /// The folder of the record of payments, which the limits of a day rest on. It is made where
        /// there is none. Grants with the same folder share what was spent. A host script or a
        /// command needs it; `stockade serve` has one for each grant.
        pub ledger: Option<PathBuf> = text(NEW).derived("a folder of the grant's own, in `stockade serve`").like(&["./payments"]),
        /// Files with certificates of authorities. Where there are some, they alone are
        /// trusted.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for LightningGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        let lnbits = self
            .lnbits
            .iter_mut()
            .flat_map(|wallet| wallet.key.iter_mut());
        self.nwc.iter_mut().chain(lnbits).collect()
    }
}

section! {
    /// A wallet of an LNbits server.
    pub struct LnbitsWallet "lnbits" {
        /// The server.
        pub url: String = text(SERVER).required().like(&["https://lnbits.example"]),
        /// The wallet's key: its admin key to pay, its invoice key to receive.
        pub key: Option<SecretRef> = SecretRef::key().required() => |wallet| SecretRef::of(wallet, "key"),
    }
}

section! {
    /// What may be spent. What is on its way, and a payment whose outcome is unknown, count
    /// as spent.
    pub struct Spend "spend" {
        /// The largest payment, without its fee.
        pub payment: Msat = text(AMOUNT).required().like(&["500sat"]) => |spend| spend.get::<Option<Msat>>("payment").unwrap_or_default(),
        /// All payments of a day in UTC, with their fees.
        pub day: Msat = text(AMOUNT).required().like(&["5000sat"]) => |spend| spend.get::<Option<Msat>>("day").unwrap_or_default(),
        /// The largest fee of a payment.
        pub fee: FeeLimit = text(FEE).default("1% + 2sat") => |spend| spend.get::<Option<FeeLimit>>("fee").unwrap_or_default(),
    }
}

/// An amount in thousandths of a satoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Msat(pub u64);

/// The largest fee of a payment: a share, and an amount in addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeeLimit {
    /// Millionths of the payment.
    pub millionths: u64,
    /// In addition to the share.
    pub fixed: Msat,
}

impl FeeLimit {
    /// The largest fee of a payment of this amount.
    #[must_use]
    pub fn of(self, payment: Msat) -> Msat {
        let share = u128::from(payment.0) * u128::from(self.millionths) / 1_000_000;
        Msat(
            u64::try_from(share)
                .unwrap_or(u64::MAX)
                .saturating_add(self.fixed.0),
        )
    }
}

from_text! {
    Msat = amount,
    FeeLimit = fee,
}

fn amount(text: &str) -> Result<Msat, Message> {
    amount_of(text).ok_or_else(|| {
        let what = format!("{:?} is no amount", shown(text));
        Message::allowed(what, AMOUNT.what)
    })
}

fn amount_of(text: &str) -> Option<Msat> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix("msat") {
        Some(number) => (number, 1),
        None => (text.strip_suffix("sat")?, 1000),
    };
    let digits = number.trim().replace('_', "");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit).map(Msat)
}

fn fee(text: &str) -> Result<FeeLimit, Message> {
    fee_of(text).ok_or_else(|| {
        let what = format!("{:?} is no limit of fees", shown(text));
        Message::allowed(what, FEE.what)
    })
}

fn fee_of(text: &str) -> Option<FeeLimit> {
    let mut limit = FeeLimit::default();
    for part in text.split('+') {
        match part.trim().strip_suffix('%') {
            Some(share) => {
                let share: f64 = share.trim().parse().ok()?;
                if !(0.0..=100.0).contains(&share) || limit.millionths != 0 {
                    return None;
                }
                // At most 1,000,000, which fits.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between 0 and a million"
                )]
                let millionths = (share * 10_000.0).round() as u64;
                limit.millionths = millionths;
            }
            None if limit.fixed.0 == 0 => limit.fixed = amount_of(part)?,
            None => return None,
        }
    }
    Some(limit)
}

/// Exactly one wallet; checked here, where the last of the two is read.
fn lnbits(grant: &Fields<'_>) -> Option<LnbitsWallet> {
    if !(grant.has("nwc") ^ grant.has("lnbits")) {
        let what = "a grant is of one wallet";
        grant.refuse(
            if grant.has("nwc") { "nwc" } else { "network" },
            Message::allowed(what, "either nwc: or lnbits:"),
        );
    }
    grant
        .has("lnbits")
        .then(|| LnbitsWallet::read(&grant.section("lnbits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amount_has_a_unit() {
        for (text, msat) in [
            ("0sat", 0),
            ("500sat", 500_000),
            ("1_500 msat", 1500),
            ("21 sat", 21_000),
        ] {
            assert_eq!(amount_of(text), Some(Msat(msat)), "{text}");
        }
        for text in [
            "",
            "sat",
            "5",
            "-5sat",
            "5btc",
            "1.5sat",
            "18446744073709551615sat",
            "_sat",
        ] {
            assert_eq!(amount_of(text), None, "{text}");
        }
    }

    #[test]
    fn fee_is_a_share_and_an_amount() {
        for (text, millionths, fixed) in [
            ("1% + 2sat", 10_000, 2000),
            ("2sat+0.25%", 2500, 2000),
            ("3%", 30_000, 0),
            ("1msat", 0, 1),
        ] {
            let limit = FeeLimit {
                millionths,
                fixed: Msat(fixed),
            };
            assert_eq!(fee_of(text), Some(limit), "{text}");
        }
        for text in [
            "",
            "1",
            "101%",
            "-1%",
            "1% + 2%",
            "1sat + 1sat",
            "1% +",
            "NaN%",
        ] {
            assert_eq!(fee_of(text), None, "{text}");
        }
        let limit = FeeLimit {
            millionths: 10_000,
            fixed: Msat(2000),
        };
        assert_eq!(limit.of(Msat(100_000)), Msat(3000));
        assert_eq!(limit.of(Msat(u64::MAX)).0, u64::MAX / 100 + 2000);
    }
}
