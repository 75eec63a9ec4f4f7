//! What a wallet is asked, whatever protocol it speaks.

use futures_util::future::BoxFuture;
use stockade_config::Msat;

/// What became of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paid {
    /// It was paid. The wallet says what it cost, and gives the proof in hexadecimal digits.
    Yes { fee: Msat, preimage: String },
    /// It was not, for certain, and will not be.
    No(String),
    /// Nobody knows, or it is on its way.
    Unknown(String),
}

/// An invoice that was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) invoice: String,
}

/// An invoice, or a payment, as the wallet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) settled: bool,
    /// Whether the wallet receives it. That says nothing about a payment with the same hash.
    pub(super) incoming: bool,
    /// Whether it can no longer be settled.
    pub(super) failed: bool,
    pub(super) preimage: Option<String>,
    pub(super) fee: Option<Msat>,
}

/// Why a wallet did not do it. The text is for the guest: it holds no address and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WalletError {
    /// It cannot be reached, or breaks its protocol: what it did is unknown.
    Unreachable(String),
    /// It refuses.
    Refused(String),
    /// It knows of no such invoice or payment.
    NotFound,
}

impl WalletError {
    pub(super) fn text(self) -> String {
        match self {
            Self::Unreachable(why) | Self::Refused(why) => why,
            Self::NotFound => "the wallet knows of no such payment".to_owned(),
        }
    }
}

/// A wallet. Each of its methods ends within a bound of its own.
pub(super) trait Wallet: Send + Sync {
    /// Pays an invoice; `amount` for one that names none.
    fn pay<'a>(
        &'a self,
        invoice: &'a str,
        hash: &'a str,
        amount: Option<Msat>,
    ) -> BoxFuture<'a, Paid>;

    /// Makes an invoice.
    fn make<'a>(
        &'a self,
        amount: Msat,
        description: &'a str,
        expiry: Option<u64>,
    ) -> BoxFuture<'a, Result<Made, WalletError>>;

    /// Looks an invoice or a payment up by its hash.
    fn find<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Result<Found, WalletError>>;

    /// Whether a payment that the wallet does not know of, long after it was asked for, was never made.
    fn knows_all(&self) -> bool;
}

/// A bounded piece of what a wallet says, without control characters.
pub(super) fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(200).map(clean).collect()
}
