//! For which client the current task works, so that what it causes is counted for the client.

use std::sync::Arc;

use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

use crate::client::CpuAccount;

/// The client for which a task works.
#[derive(Debug, Clone, Default)]
pub struct OnBehalf {
    /// The number of its API key.
    pub key: Option<u64>,
    /// Where CPU time is charged.
    pub cpu: Option<Arc<dyn CpuAccount>>,
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

/// Where the CPU time of what the current task causes is charged, if it is.
#[must_use]
pub fn cpu_in_charge() -> Option<Arc<dyn CpuAccount>> {
    let cpu = CLIENT.try_with(|client| client.cpu.clone());
    cpu.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn key_is_that_of_the_task_and_of_no_other() {
        assert_eq!(key_in_charge(), None);
        let client = OnBehalf {
            key: Some(7),
            cpu: None,
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
