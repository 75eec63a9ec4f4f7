//! One site: everything made for it from its configuration, and whether it has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stockade_broker::{Broker, EgressPolicy, Secrets, SocketPolicy, Ways};
use stockade_config::{AssetsOrder, Instance as SiteConfig};
use stockade_gateway::Target;
use stockade_grants::Grants;
use stockade_instance::{Instance, InstanceOptions};
use stockade_state::Store;
use stockade_supervisor::Supervisor;
use stockade_transpile::ModuleFiles;

use crate::brokers::Brokers;
use crate::capabilities::{self, Ground};
use crate::deployments::VersionRef;
use crate::directory::{Answering, Directory, VersionCounts};
use crate::error::SiteError;
use crate::metrics::{SiteMetrics, SiteTable};
use crate::observe::{Logs, SiteObserver};
use crate::plan;
use crate::receipts::{ReceiptWriter, SiteReceipts};
use crate::services::{CurrentTracing, SiteServices};

/// How long a site that was replaced goes on before it drains: requests that found it are then in.
const HANDOVER: Duration = Duration::from_millis(250);

/// What all sites are made with.
pub(crate) struct SiteContext {
    pub(crate) supervisor: Supervisor,
    pub(crate) brokers: Brokers,
    pub(crate) grants: Arc<Grants>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) metrics: Arc<SiteTable>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) receipts: ReceiptWriter,
    pub(crate) tracing: CurrentTracing,
}

/// What a configuration says about all sites.
pub(crate) struct MadeWith<'a> {
    /// The store of all states, where any site has one.
    pub(crate) store: Option<&'a Arc<dyn Store>>,
    /// Where grants keep what must outlive the process.
    pub(crate) grants_folder: &'a Path,
    /// Bytes of one message of a WebSocket.
    pub(crate) socket_message: usize,
}

/// The folder of all grants, next to the database of the state.
pub(crate) fn grants_folder(state: &Path) -> PathBuf {
    state.with_file_name("grants")
}

/// A site that runs.
pub(crate) struct Site {
    pub(crate) config: SiteConfig,
    /// Which code it runs.
    pub(crate) version: VersionRef,
    /// Where its code lies.
    folder: Option<PathBuf>,
    socket_message: usize,
    /// The number of its instance; never used twice.
    number: u64,
    metrics: Arc<SiteMetrics>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) counts: Arc<VersionCounts>,
}

/// The assets of an uploaded version, whose files are in this folder: the folder in it with the name of the one that the
/// configuration has for assets. A version without one goes with the configuration's.
pub(crate) fn assets_of(config: &SiteConfig, files: &Path) -> Option<PathBuf> {
    let name = config.assets.as_ref()?.folder.file_name()?;
    Some(files.join(name)).filter(|folder| folder.is_dir())
}

/// The configuration of a version with assets of its own in `folder`; without, those of the configuration stay.
pub(crate) fn with_assets(config: &SiteConfig, folder: Option<PathBuf>) -> SiteConfig {
    let mut config = config.clone();
    if let (Some(assets), Some(folder)) = (&mut config.assets, folder) {
        assets.folder = folder;
    }
    config
}

/// A site's code, read from its files.
pub(crate) fn code(config: &SiteConfig) -> Result<Option<ModuleFiles>, SiteError> {
    let read = config.code.as_deref().map(ModuleFiles::read);
    Ok(read.transpose()?)
}

impl Site {
    /// Whether the site would be the same if it was created again.
    pub(crate) fn is(
        &self,
        config: &SiteConfig,
        modules: Option<&ModuleFiles>,
        socket_message: usize,
    ) -> bool {
        let same_code = match (&self.answering.instance, modules) {
            (Some(instance), Some(files)) => {
                let running = &instance.options().isolate;
                running.modules == files.modules
                    && running.main.as_ref() == Some(&files.entry)
                    && self.folder.as_ref() == Some(&files.folder)
            }
            (None, None) => true,
            _ => false,
        };
        same_code && self.config == *config && self.socket_message == socket_message
    }

    /// Files that the site was made of, for watching.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        let (Some(instance), Some(folder)) = (&self.answering.instance, &self.folder) else {
            return Vec::new();
        };
        let names = instance.options().isolate.modules.keys();
        names.map(|name| folder.join(name)).collect()
    }

    /// Makes the site and starts its mirrors, in the background.
    pub(crate) async fn start(
        context: &SiteContext,
        with: &MadeWith<'_>,
        config: &SiteConfig,
        version: VersionRef,
        modules: Option<ModuleFiles>,
        number: u64,
    ) -> Result<Self, SiteError> {
        let assets = config
            .assets
            .as_ref()
            .map(|assets| plan::gateway::assets(assets, config.code.is_some()))
            .transpose()?;
        let folder = modules.as_ref().map(|files| files.folder.clone());
        let receipts = match &modules {
            Some(files) => SiteReceipts::open(config, files, &context.receipts)?,
            None => None,
        };
        let instance = match modules {
            Some(files) => {
                let broker = context.brokers.with_roots(&config.data_guard.ca)?;
                let made = make(context, with, &broker, config, files, assets.clone());
                let (options, services) = made.await?;
                let metrics = context.metrics.site(&config.name);
                let observer = SiteObserver::new(
                    Arc::clone(&metrics),
                    Arc::clone(&context.logs),
                    config.wx_audit,
                    config.fresh,
                );
                let instance = Instance::start(
                    options,
                    context.supervisor.clone(),
                    Arc::new(services),
                    Arc::new(observer),
                );
                metrics.runs(number, instance.clone());
                Some(instance)
            }
            None => None,
        };
        Ok(Self {
            config: config.clone(),
            version,
            folder,
            socket_message: with.socket_message,
            number,
            metrics: context.metrics.site(&config.name),
            answering: Arc::new(Answering {
                instance,
                assets,
                code_first: config
                    .assets
                    .as_ref()
                    .is_some_and(|assets| assets.order == AssetsOrder::CodeFirst),
                receipts,
            }),
            counts: Arc::default(),
        })
    }

    /// Whether it takes requests, or has no mirror because none is wanted.
    pub(crate) fn is_ready(&self) -> bool {
        let Some(instance) = &self.answering.instance else {
            return true;
        };
        let stats = instance.stats();
        stats.wanted == 0 || stats.serves
    }

    /// Waits for the first mirror.
    pub(crate) async fn ready(&self) -> Result<(), SiteError> {
        match &self.answering.instance {
            Some(instance) => instance.ready().await.map_err(SiteError::Start),
            None => Ok(()),
        }
    }

    /// Lets what runs end and then ends the mirrors, at the deadline in any case.
    pub(crate) async fn retire(&self, deadline: Duration, handover: bool) {
        let Some(instance) = self.answering.instance.clone() else {
            return;
        };
        if handover {
            tokio::time::sleep(HANDOVER).await;
        }
        let drained = if handover {
            instance.replaced(deadline).await
        } else {
            instance.drain(deadline).await
        };
        let name = &self.config.name;
        self.metrics.ended(self.number);
        if drained != stockade_instance::Drained::default() {
            tracing::warn!(
                instance = name.as_str(),
                requests = drained.requests_cut,
                websockets = drained.sockets_cut,
                background = drained.background_cut,
                "cut short at the deadline of a drain"
            );
        }
    }
}

/// The secrets that a site's guests may read, and those that only the broker fills in.
pub(crate) fn secrets<'a>(
    broker: &Broker,
    config: &'a SiteConfig,
) -> Result<(BTreeMap<&'a str, &'a str>, Secrets), SiteError> {
    let (plain, kept) = plan::grants::secrets(config)?;
    Ok((plain, broker.secrets(&config.name, kept)?))
}

/// The tunnels that a site's rules may name.
pub(crate) fn ways(broker: &Broker, config: &SiteConfig) -> Result<Ways, SiteError> {
    let ways = stockade_grants::ways(broker, &config.name, &config.grants);
    ways.map_err(|source| SiteError::Grant {
        name: "wireguard_tunnel".to_owned(),
        source,
    })
}

/// The options of a site's instance, and what it may ask for.
async fn make(
    context: &SiteContext,
    with: &MadeWith<'_>,
    broker: &Broker,
    config: &SiteConfig,
    code: ModuleFiles,
    assets: Option<Arc<dyn Target>>,
) -> Result<(InstanceOptions, SiteServices), SiteError> {
    let name = config.name.as_str();
    let (plain, secrets) = secrets(broker, config)?;
    let values = plain.into_iter().chain(secrets.environment());
    let env = plan::instance::environment(config, values)?;
    let ways = ways(broker, config)?;
    let policy = EgressPolicy {
        ways: ways.clone(),
        ..plan::egress::policy(&config.data_guard, with.socket_message)
    };
    let granted = capabilities::open(&Ground {
        site: config,
        broker,
        ways: &ways,
        directory: &context.directory,
        grants: &context.grants,
        grants_folder: with.grants_folder,
        store: with.store,
        assets: assets.as_ref(),
    })
    .await?;
    let egress = broker.egress(name, policy, secrets)?;
    let policy = SocketPolicy {
        ways,
        ..plan::sockets::policy(&config.sockets)
    };
    let sockets = broker.sockets(name, policy)?;
    let services = SiteServices::new(
        egress,
        sockets,
        granted,
        &context.metrics.site(name),
        &context.logs,
        Arc::clone(&context.tracing),
    );
    let options = InstanceOptions {
        numbers: context.metrics.site(name).mirror_numbers.clone(),
        ..plan::instance::options(config, env, Some(code), with.socket_message)
    };
    Ok((options, services))
}
