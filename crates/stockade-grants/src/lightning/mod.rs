//! `env.NAME` of kind `lightning`: a wallet that receives, and spends within limits.
//!
//! Amounts are in thousandths of a satoshi (msat).
//!
//! | method | takes | gives |
//! |---|---|---|
//! | `payInvoice` | `{invoice, amount?}` | `{preimage, fees_paid}` |
//! | `makeInvoice` | `{amount, description?, expiry?}` | `{invoice, payment_hash, amount, expires_at}` |
//! | `lookupInvoice` | `{invoice}` or `{payment_hash}` | `{state, preimage?, amount?, fees_paid?, type, payment_hash}` |
//! | `listTransactions` | nothing | `{transactions}`, the payments of this grant |
//! | `getBalance` | nothing | `{balance}`, what is left of the day |
//! | `getBudget` | nothing | `{used_budget, total_budget, renews_at, renewal_period}` |
//!
//! Invariants:
//! 1. The invoice is read here. What it asks for is checked, and reserved with the largest fee, before the wallet
//!    is asked; [`ledger`] says what holds then.
//! 2. A payment that began goes on when its guest ends, and is recorded.
//! 3. An invoice is paid once. Who pays it again gets the proof of the first time.
//! 4. A payment that the wallet cannot prove counts as spent, and is no success.
//! 5. A guest sees invoices that this grant made or paid, and no others of the wallet.
//! 6. The wallet is asked again about each payment whose outcome is unknown, as long as the payment counts.
//!
//! Deliberately absent: the balance of the wallet, which is the operator's.

mod invoice;
mod ledger;
mod lnbits;
mod nwc;
mod wallet;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use stockade_broker::TlsClientOptions;
use stockade_capability::{CallContext, CallPayload, CallPlace, Capability, ErrorName, Reply};
use stockade_config::{BitcoinNetwork, CallLimits, LightningGrant, Msat, SecretRef, Spend};
use stockade_protocol::GuestError;
use stockade_state::Version;
use tokio::sync::{OnceCell, watch};

use invoice::Invoice;
use ledger::{Ledger, LedgerError, Payment, PaymentState, Reservation};
use wallet::{Paid, Wallet};

use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &[
    "payInvoice",
    "makeInvoice",
    "lookupInvoice",
    "listTransactions",
    "getBalance",
    "getBudget",
];
pub(crate) const EVERY_CALL: bool = true;

/// Bytes of JSON that are read for one call.
const MAX_ARGUMENTS: usize = 32 << 10;

/// The longest description of an invoice, in bytes (BOLT 11: 639).
const MAX_DESCRIPTION: usize = 639;

/// How long after a payment of unknown outcome the wallet is asked again, and again.
const REVIEW: Duration = Duration::from_secs(CERTAIN.as_secs() + 1);

/// After this time a wallet that records each payment first, and does not know of this one, will not make it any more: its request has expired.
const CERTAIN: Duration = Duration::from_secs(600);

/// How often a wallet may take more than the largest fee before nothing is paid through it any more.
const MOST_OVERCHARGES: u32 = 2;

impl GrantKind for LightningGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        let tls = ground.network.tls(&TlsClientOptions {
            ca: self.ca.clone(),
            ..TlsClientOptions::default()
        })?;
        let network = ground.network.clone();
        let wallet: Arc<dyn Wallet> = match (&self.nwc, &self.lnbits) {
            (_, Some(wallet)) => {
                let key = wallet.key.as_ref().map_or("", SecretRef::reveal);
                Arc::new(
                    lnbits::Lnbits::new(&wallet.url, key, network, tls)
                        .map_err(GrantError::Invalid)?,
                )
            }
            (nwc, None) => {
                let url = nwc.as_ref().map_or("", SecretRef::reveal);
                Arc::new(nwc::Nwc::new(url, network, tls).map_err(GrantError::Invalid)?)
            }
        };
        let Some(data) = self.ledger.clone().or_else(|| ground.data.clone()) else {
            let what = "a wallet needs a folder for its record of payments: name one with `ledger`, such as \"./payments\"";
            return Err(GrantError::Invalid(what.to_owned()));
        };
        Ok(Arc::new(Lightning(Arc::new(Account {
            wallet,
            network: self.network,
            receive: self.receive,
            spend: self.spend.clone(),
            data,
            ledger: OnceCell::new(),
            overcharges: AtomicU32::new(0),
            is_reviewing: AtomicBool::new(false),
        }))))
    }

    /// Asking a wallet for anything may be seen by its owner; nothing is asked.
    fn check<'a>(&'a self, _ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

struct Lightning(Arc<Account>);

impl Capability for Lightning {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (account, method) = (Arc::clone(&self.0), method.to_owned());
        Box::pin(async move {
            let (request, _) = arguments.read::<Request>(MAX_ARGUMENTS)?;
            let value = account.call(&context, &method, request).await?;
            // No text of a wallet's is taken for a mark: the value has none.
            Reply::plain(&value)
        })
    }
}

/// The argument of any method.
#[derive(Deserialize)]
struct Request {
    invoice: Option<String>,
    amount: Option<u64>,
    description: Option<String>,
    expiry: Option<u64>,
    payment_hash: Option<String>,
}

/// What became of a payment: its proof and its fee.
type Outcome = Result<(String, Msat), GuestError>;

/// The outcome of a payment that is on its way, for all who wait for it.
type Waiting = watch::Receiver<Option<Outcome>>;

struct Account {
    wallet: Arc<dyn Wallet>,
    network: BitcoinNetwork,
    receive: bool,
    spend: Option<Spend>,
    data: PathBuf,
    ledger: OnceCell<Arc<Ledger>>,
    overcharges: AtomicU32,
    /// A task asks about payments of unknown outcome. There is one at most.
    is_reviewing: AtomicBool,
}

/// A payment among those that are on their way, until this is dropped.
struct OnItsWay {
    ledger: Arc<Ledger>,
    hash: String,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.ledger.paying().remove(&self.hash);
    }
}

fn lightning_error(message: impl Into<String>) -> GuestError {
    ErrorName::Own("LightningError").error(message)
}

impl From<LedgerError> for GuestError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Day { .. } => ErrorName::Quota.error(error.to_string()),
            LedgerError::Store => lightning_error(error.to_string()),
        }
    }
}

impl Account {
    async fn call(
        self: &Arc<Self>,
        context: &CallContext,
        method: &str,
        request: Request,
    ) -> Result<Value, GuestError> {
        match method {
            "payInvoice" => {
                let (preimage, fee) = self.pay(context, request).await?;
                Ok(json!({ "preimage": preimage, "fees_paid": fee.0 }))
            }
            "makeInvoice" => self.make(context, request).await,
            "lookupInvoice" => self.look_up(context, request).await,
            "listTransactions" => {
                let payments = self.ledger(context).await?.payments().await?;
                let payments: Vec<_> = payments
                    .iter()
                    .map(|(hash, payment)| shown(hash, payment))
                    .collect();
                Ok(json!({ "transactions": payments }))
            }
            "getBalance" => {
                let (limit, spent, _) = self.budget(context).await?;
                Ok(json!({ "balance": limit.0.saturating_sub(spent.0) }))
            }
            "getBudget" => {
                let (limit, spent, renews) = self.budget(context).await?;
                Ok(json!({
                    "used_budget": spent.0,
                    "total_budget": limit.0,
                    "renews_at": renews,
                    "renewal_period": "daily",
                }))
            }
            _ => Err(ErrorName::Type.error("a wallet has no such method")),
        }
    }

    async fn ledger(self: &Arc<Self>, context: &CallContext) -> Result<&Arc<Ledger>, GuestError> {
        let limit = self.spend.as_ref().map_or(Msat(0), |spend| spend.day);
        let opening = || async {
            let ledger = Ledger::open(&self.data, limit, context.place.clone()).await?;
            // Payments of unknown outcome may have been left by an earlier process.
            self.review();
            Ok::<_, String>(Arc::new(ledger))
        };
        self.ledger.get_or_try_init(opening).await.map_err(|why| {
            // Why is for the operator; the path of the file is in it.
            context.notes.add("failure", why.as_str());
            lightning_error("the record of payments cannot be opened")
        })
    }

    /// The limit of a day, what of it is spent, and when it ends in seconds since 1970.
    async fn budget(
        self: &Arc<Self>,
        context: &CallContext,
    ) -> Result<(Msat, Msat, u64), GuestError> {
        let now = SystemTime::now();
        let spent = self.ledger(context).await?.spent(now).await?;
        let limit = self.spend.as_ref().map_or(Msat(0), |spend| spend.day);
        Ok((limit, spent, ledger::day_ends(now)))
    }

    async fn pay(self: &Arc<Self>, context: &CallContext, request: Request) -> Outcome {
        let notes = &context.notes;
        let spend = self.spend.as_ref().ok_or_else(|| {
            notes.refused("spend");
            ErrorName::Type.error("the grant does not allow payments (`spend`)")
        })?;
        if self.overcharges.load(Ordering::Relaxed) >= MOST_OVERCHARGES {
            notes.refused("fees");
            return Err(lightning_error(
                "the wallet took more than the largest fee: nothing is paid through it until it is restarted",
            ));
        }

        // What is asked for.
        let invoice = Invoice::read(&request.invoice.unwrap_or_default(), self.network)?;
        let amount = invoice.amount(request.amount)?;
        notes.add("payment_hash", invoice.hash.as_str());
        notes.add("msat", amount.0);
        if amount > spend.payment {
            notes.refused("payment");
            return Err(ErrorName::Quota.error(format!(
                "the payment is of {} msat, and the grant allows {} msat",
                amount.0, spend.payment.0
            )));
        }
        let ledger = Arc::clone(self.ledger(context).await?);
        let fee = spend.fee.of(amount);
        let place = context.place.clone();
        finished(self.joined_or_begun(ledger, invoice, (amount, fee), place))
            .await
            .inspect_err(|error| {
                if error.name == ErrorName::Quota.name() {
                    notes.refused("day");
                }
            })
    }

    /// The payment with this hash that is on its way, or a new one, which goes on whether or not anybody waits, and has
    /// `place` until then.
    fn joined_or_begun(
        self: &Arc<Self>,
        ledger: Arc<Ledger>,
        invoice: Invoice,
        most: (Msat, Msat),
        place: CallPlace,
    ) -> Waiting {
        let mut paying = ledger.paying();
        if let Some(waiting) = paying.get(&invoice.hash) {
            return waiting.clone();
        }
        let (sender, receiver) = watch::channel(None);
        paying.insert(invoice.hash.clone(), receiver.clone());
        drop(paying);
        let account = Arc::clone(self);
        let on_its_way = OnItsWay {
            ledger: Arc::clone(&ledger),
            hash: invoice.hash.clone(),
        };
        tokio::spawn(async move {
            // What comes later finds it in the ledger, also after a panic.
            let _on_its_way = on_its_way;
            let outcome = account.pay_once(&ledger, &invoice, most).await;
            drop(place);
            sender.send_replace(Some(outcome));
        });
        receiver
    }

    async fn make(
        self: &Arc<Self>,
        context: &CallContext,
        request: Request,
    ) -> Result<Value, GuestError> {
        let notes = &context.notes;
        if !self.receive {
            notes.refused("receive");
            return Err(ErrorName::Type.error("the grant does not allow invoices (`receive`)"));
        }
        let amount = request.amount.filter(|amount| *amount > 0);
        let amount = Msat(
            amount.ok_or_else(|| ErrorName::Type.error("an invoice needs an amount in msat"))?,
        );
        let description = request.description.unwrap_or_default();
        if description.len() > MAX_DESCRIPTION {
            return Err(ErrorName::Range
                .error(format!("a description has at most {MAX_DESCRIPTION} bytes")));
        }
        notes.add("msat", amount.0);
        let made = self.wallet.make(amount, &description, request.expiry).await;
        let made = made.map_err(|error| lightning_error(error.text()))?;
        // What the guest shows to others is what it asked for.
        let invoice = Invoice::read(&made.invoice, self.network)
            .map_err(|_| lightning_error("the wallet made no invoice of this network"))?;
        if invoice.named != Some(amount) {
            return Err(lightning_error(
                "the wallet made an invoice of another amount",
            ));
        }
        notes.add("payment_hash", invoice.hash.as_str());
        self.ledger(context).await?.made(&invoice.hash).await?;
        Ok(json!({
            "type": "incoming",
            "invoice": made.invoice,
            "description": description,
            "payment_hash": invoice.hash,
            "amount": amount.0,
            "expires_at": invoice.expires_at,
        }))
    }

    async fn look_up(
        self: &Arc<Self>,
        context: &CallContext,
        request: Request,
    ) -> Result<Value, GuestError> {
        let hash = match (request.payment_hash, request.invoice) {
            (Some(hash), _) if invoice::is_hash(&hash) => hash.to_ascii_lowercase(),
            (None, Some(text)) => Invoice::read(&text, self.network)?.hash,
            _ => return Err(ErrorName::Type.error("an invoice or its payment_hash is needed")),
        };
        let ledger = self.ledger(context).await?;
        self.resolve(ledger, &hash, SystemTime::now(), false)
            .await?;
        if let Some((payment, _)) = ledger.payment(&hash).await? {
            return Ok(shown(&hash, &payment));
        }
        let unknown =
            || ErrorName::Own("NotFound").error("the grant made and paid no such invoice");
        if !ledger.was_made(&hash).await? {
            return Err(unknown());
        }
        let found = self.wallet.find(&hash).await.map_err(|error| match error {
            wallet::WalletError::NotFound => unknown(),
            error => lightning_error(error.text()),
        })?;
        let state = if found.settled {
            "settled"
        } else if found.failed {
            "failed"
        } else {
            "pending"
        };
        Ok(
            json!({ "type": "incoming", "payment_hash": hash, "state": state, "preimage": found.preimage }),
        )
    }

    /// Pays an invoice unless it was paid. Nobody else pays one with this hash meanwhile.
    async fn pay_once(
        self: &Arc<Self>,
        ledger: &Ledger,
        invoice: &Invoice,
        (amount, fee): (Msat, Msat),
    ) -> Outcome {
        let now = SystemTime::now();
        self.resolve(ledger, &invoice.hash, now, true).await?;
        if let Some((payment, _)) = ledger.payment(&invoice.hash).await?
            && payment.state != PaymentState::Failed
        {
            return known(payment);
        }
        invoice.check_time(now)?;
        let reserved = ledger.reserve(&invoice.hash, amount, fee, now).await?;
        if let Reservation::Known(payment) = reserved {
            return known(payment);
        }
        let open = invoice.is_open.then_some(amount);
        let paid = self.wallet.pay(&invoice.text, &invoice.hash, open).await;
        match paid {
            Paid::Yes { fee, preimage } if invoice::proves(&preimage, &invoice.hash) => {
                self.settle(ledger, &invoice.hash, None, Some((fee, &preimage)))
                    .await?;
                Ok((preimage, fee))
            }
            // It stays reserved, which is to say spent.
            Paid::Yes { .. } => {
                self.review();
                Err(lightning_error(
                    "the wallet gave no proof of the payment, which counts as spent",
                ))
            }
            Paid::No(why) => {
                self.settle(ledger, &invoice.hash, None, None).await?;
                Err(lightning_error(format!("the payment failed: {why}")))
            }
            Paid::Unknown(why) => {
                self.review();
                Err(lightning_error(format!(
                    "it is unknown whether the payment was made, and it counts as spent until the wallet says otherwise: {why}"
                )))
            }
        }
    }

    /// Asks the wallet what became of a payment whose outcome nobody knows, where there is one. `own`: it is this call
    /// that pays it now; otherwise one that is on its way is left alone.
    async fn resolve(
        &self,
        ledger: &Ledger,
        hash: &str,
        now: SystemTime,
        own: bool,
    ) -> Result<(), GuestError> {
        let Some((payment, version)) = ledger.payment(hash).await? else {
            return Ok(());
        };
        if payment.state != PaymentState::Reserved || (!own && ledger.paying().contains_key(hash)) {
            return Ok(());
        }
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(payment.created);
        let old = now.duration_since(created).unwrap_or_default() > CERTAIN;
        match self.wallet.find(hash).await {
            Ok(found) if found.incoming => {}
            Ok(found) if found.settled => {
                let proof = found
                    .preimage
                    .filter(|preimage| invoice::proves(preimage, hash));
                let fee = found
                    .fee
                    .unwrap_or(Msat(payment.counted.saturating_sub(payment.amount)));
                if let Some(proof) = proof {
                    self.settle(ledger, hash, Some(version), Some((fee, &proof)))
                        .await?;
                }
            }
            Ok(found) if found.failed => self.settle(ledger, hash, Some(version), None).await?,
            Err(wallet::WalletError::NotFound) if old && self.wallet.knows_all() => {
                self.settle(ledger, hash, Some(version), None).await?
            }
            // It stays reserved.
            _ => {}
        }
        Ok(())
    }

    /// Records what became of a payment, and whether it cost more than was reserved for it.
    async fn settle(
        &self,
        ledger: &Ledger,
        hash: &str,
        version: Option<Version>,
        paid: Option<(Msat, &str)>,
    ) -> Result<(), GuestError> {
        let excess = ledger
            .settle(hash, version, paid, SystemTime::now())
            .await?;
        if excess > Msat(0) {
            self.overcharges.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Has the wallet asked again, every [`REVIEW`], about the payments of unknown outcome, until there are none that
    /// count. It ends with the grant.
    fn review(self: &Arc<Self>) {
        if self.is_reviewing.swap(true, Ordering::SeqCst) {
            return;
        }
        let account = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(REVIEW).await;
                let Some(account) = account.upgrade() else {
                    return;
                };
                // First: who has one meanwhile begins another review.
                account.is_reviewing.store(false, Ordering::SeqCst);
                let left = account.review_once(SystemTime::now()).await;
                if !left || account.is_reviewing.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        });
    }

    /// Asks about each payment of unknown outcome that counts at `now`; whether some are left.
    async fn review_once(&self, now: SystemTime) -> bool {
        let Some(ledger) = self.ledger.get() else {
            return false;
        };
        // Where the ledger fails, the payments stay as they are until the next time.
        let Ok(open) = ledger.open_payments(now).await else {
            return true;
        };
        for hash in &open {
            if self.resolve(ledger, hash, now, false).await.is_err() {
                return true;
            }
        }
        ledger
            .open_payments(now)
            .await
            .map_or(true, |open| !open.is_empty())
    }
}

/// The outcome of a payment that is in the ledger.
fn known(payment: Payment) -> Outcome {
    match (payment.state, payment.preimage) {
        (PaymentState::Paid, Some(preimage)) => {
            Ok((preimage, Msat(payment.fee.unwrap_or_default())))
        }
        _ => Err(lightning_error(
            "it is unknown whether an earlier payment of this invoice was made, and it counts as spent until the wallet says so",
        )),
    }
}

async fn finished(mut paying: Waiting) -> Outcome {
    let outcome = paying
        .wait_for(Option::is_some)
        .await
        .map(|outcome| outcome.clone());
    let lost =
        || lightning_error("it is unknown whether the payment was made, and it counts as spent");
    outcome.ok().flatten().unwrap_or_else(|| Err(lost()))
}

/// A payment as NWC describes it.
fn shown(hash: &str, payment: &Payment) -> Value {
    let state = match payment.state {
        PaymentState::Reserved => "pending",
        PaymentState::Paid => "settled",
        PaymentState::Failed => "failed",
    };
    json!({
        "type": "outgoing",
        "state": state,
        "payment_hash": hash,
        "amount": payment.amount,
        "fees_paid": payment.fee,
        "preimage": payment.preimage,
        "created_at": payment.created,
    })
}
