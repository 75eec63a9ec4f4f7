//! One certificate from the server: account, order, challenges, chain (RFC 8555, section 7).

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rustls::crypto::CryptoProvider;

use super::cache::Cache;
use super::challenge::{ChallengeError, Challenges};
use super::client::DirectClient;
use super::options::{AcmeChallenge, AcmeOptions};

/// Time for the server to check all challenges, and again to sign.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is needed to ask.
pub(crate) struct OrderClient {
    pub(crate) options: AcmeOptions,
    pub(crate) cache: Cache,
    pub(crate) client: DirectClient,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("{0}")]
    Server(#[from] Error),
    #[error("the account's key cannot be kept: {0}")]
    Cache(#[source] std::io::Error),
    #[error("the server offers no challenge {wanted} for {name}, only {offered}")]
    NoChallenge {
        wanted: &'static str,
        name: String,
        offered: String,
    },
    #[error("{0}")]
    Challenge(#[from] ChallengeError),
    #[error("the server could not verify {0}")]
    NotVerified(String),
    #[error("the server's order is {0} where it should be ready")]
    Order(String),
}

/// Key and chain as one PEM text.
pub(crate) async fn order(
    order_client: &OrderClient,
    names: &[String],
) -> Result<Vec<u8>, OrderError> {
    let account = account(order_client).await?;
    let result = order_with(order_client, &account, names).await;
    if let Err(OrderError::Server(Error::Api(problem))) = &result
        && problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
    {
        // The next try makes a new one.
        order_client.cache.forget_account();
    }
    result
}

/// The account in the cache, or a new one.
async fn account(order_client: &OrderClient) -> Result<Account, OrderError> {
    let builder = || Account::builder_with_http(Box::new(order_client.client.clone()));
    if let Some(credentials) = order_client.cache.account() {
        return Ok(builder().from_credentials(credentials).await?);
    }
    let contact: Vec<&str> = order_client
        .options
        .contact
        .iter()
        .map(String::as_str)
        .collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: order_client.options.terms_agreed,
        only_return_existing: false,
    };
    let external = order_client.options.external_account.as_ref();
    let external = external.map(|e| instant_acme::ExternalAccountKey::new(e.id.clone(), &e.key));
    let directory = order_client.options.directory.clone();
    let (account, credentials) = builder().create(&new, directory, external.as_ref()).await?;
    order_client
        .cache
        .keep_account(&credentials)
        .map_err(OrderError::Cache)?;
    Ok(account)
}

/// Challenges are closed whatever happens, also when this is dropped.
struct Open<'a> {
    challenges: &'a Challenges,
    names: &'a [String],
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        for name in self.names {
            self.challenges.close(name);
        }
    }
}

async fn order_with(
    order_client: &OrderClient,
    account: &Account,
    names: &[String],
) -> Result<Vec<u8>, OrderError> {
    let identifiers: Vec<_> = names
        .iter()
        .map(|name| Identifier::Dns(name.clone()))
        .collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let _open = Open {
        challenges: &order_client.challenges,
        names,
    };
    begin_challenges(order_client, &mut order).await?;
    let retries = RetryPolicy::new().timeout(PATIENCE);
    match order.poll_ready(&retries).await {
        Ok(OrderStatus::Ready) => {}
        Ok(OrderStatus::Invalid) => return Err(OrderError::NotVerified(faults(&mut order).await)),
        Ok(other) => return Err(OrderError::Order(format!("{other:?}"))),
        Err(e @ Error::Api(_)) => {
            let faults = faults(&mut order).await;
            return Err(if faults.is_empty() {
                e.into()
            } else {
                OrderError::NotVerified(faults)
            });
        }
        Err(e) => return Err(e.into()),
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&retries).await?;
    Ok(format!("{key}{chain}").into_bytes())
}

async fn begin_challenges(order_client: &OrderClient, order: &mut Order) -> Result<(), OrderError> {
    let (wanted, text) = match order_client.options.challenge {
        AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
        AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let offered: Vec<_> = authorization
            .challenges
            .iter()
            .map(|c| format!("{:?}", c.r#type))
            .collect();
        let Some(mut challenge) = authorization.challenge(wanted.clone()) else {
            return Err(OrderError::NoChallenge {
                wanted: text,
                name,
                offered: offered.join(", "),
            });
        };
        let answer = challenge.key_authorization();
        match order_client.options.challenge {
            AcmeChallenge::Http01 => {
                order_client
                    .challenges
                    .open_http(&name, &challenge.token, answer.as_str());
            }
            AcmeChallenge::TlsAlpn01 => {
                order_client.challenges.open_tls(
                    &name,
                    answer.digest().as_ref(),
                    &order_client.provider,
                )?;
            }
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// What the server says of each name that it could not verify.
async fn faults(order: &mut Order) -> String {
    let mut faults = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let _ = authorization.refresh().await;
        let name = authorization.identifier().to_string();
        for challenge in &authorization.challenges {
            if let Some(error) = &challenge.error {
                faults.push(format!("{name}: {error}"));
            }
        }
    }
    faults.join("; ")
}
