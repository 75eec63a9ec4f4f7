//! For which client the current task works, so that what it causes is counted for the client.

use std::sync::Arc;

use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

use crate::client::RequestAccount;

/// The client for which a task works.
#[derive(Debug, Clone, Default)]
pub struct OnBehalf {
    /// The number of its API key.
    pub key: Option<u64>,
    /// Where what is used for its request is charged, if anything counts that.
    pub account: Option<Arc<dyn RequestAccount>>,
}

task_local! {
    static CLIENT: OnBehalf;
}

/// Runs `work` for a client. Tasks that `work` starts work for no client.
pub fn on_behalf_of<F: Future>(client: OnBehalf, work: F) -> TaskLocalFuture<OnBehalf, F> {
    CLIENT.scope(client, work)
}

/// The number of the API key for which the current task works, if there is one.
#[must_use]
pub fn key_in_charge() -> Option<u64> {
    CLIENT.try_with(|client| client.key).ok().flatten()
}

/// Where what the current task uses is charged, if anything counts that.
#[must_use]
pub fn account_in_charge() -> Option<Arc<dyn RequestAccount>> {
    let account = CLIENT.try_with(|client| client.account.clone());
    account.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn key_is_that_of_the_task_and_of_no_other() {
        assert_eq!(key_in_charge(), None);
        let client = OnBehalf {
            key: Some(7),
            account: None,
        };
        on_behalf_of(client, async {
            assert_eq!(key_in_charge(), Some(7));
            on_behalf_of(OnBehalf::default(), async {
                assert_eq!(key_in_charge(), None);
            })
            .await;
            let other = tokio::spawn(async { key_in_charge() });
            assert_eq!(other.await.unwrap(), None);
        })
        .await;
    }
}
