//! The parts of a server, before a configuration uses them.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use stockade_config::Config;
use stockade_gateway::{Gateway, InheritedSockets};
use stockade_grants::Grants;
use stockade_limits::{IsolateOptions, Isolation, SandboxOptions};
use stockade_supervisor::Supervisor;
use stockade_trace::TraceCounts;
use tokio::sync::mpsc;

use super::health::Health;
use super::moment::Moment;
use super::{ServeOptions, Server};
use crate::admin::{self, Admin, AdminTarget, Command};
use crate::brokers::Brokers;
use crate::deployments::OpenDeployments;
use crate::directory::Directory;
use crate::error::ServeError;
use crate::keys::OpenKeys;
use crate::log::Log;
use crate::metrics::{History, Metrics, Process, SiteTable};
use crate::observe::{
    Auditor, EgressMetrics, GatewayMetrics, GatewayObserver, GrantMetrics, HandleGauges, Logs,
    RefusedLately, UsageCollector, UsageRecorder,
};
use crate::plan;
use crate::previews::Previews;
use crate::receipts::ReceiptWriter;
use crate::running::Snapshot;
use crate::services::CurrentTracing;
use crate::site::SiteContext;
use crate::subsystem::{
    AdminListener, Auditing, Certificates, Counting, Drains, KeysSubsystem, Listeners, Logging,
    MetricsListener, OpenStore, Sites, StateSubsystem, Subsystem, TokenKeys, TracingSubsystem,
    UsageSubsystem, log_policy,
};
use crate::tls::TlsMetrics;

/// Workers that are kept started, so that a mirror starts quickly.
const WARM: usize = 1;

impl Server {
    /// Makes all parts; none is in use before the first configuration is applied.
    pub(super) fn new(
        options: ServeOptions,
        config: &Config,
        commands: mpsc::Sender<Command>,
    ) -> Result<Self, ServeError> {
        let logs = start_logs(config)?;
        let supervisor = start_supervisor(&options);

        // Metrics first, for the other parts count with them.
        let mut registry = Registry::default();
        let sites = SiteTable::register(&mut registry);
        let process = Arc::new(Process::register(&mut registry));
        let gateway_metrics = GatewayMetrics::register(&mut registry);
        let egress = Arc::new(EgressMetrics::register(&mut registry, Arc::clone(&logs)));
        let grant_metrics = GrantMetrics::register(&mut registry, Arc::clone(&logs));
        let grant_metrics = Arc::new(grant_metrics);
        let grants = Arc::new(Grants::new(grant_metrics.clone()));
        registry.register_collector(Box::new(HandleGauges(Arc::clone(&grants))));
        let tls = Arc::new(TlsMetrics::register(&mut registry));

        // The gateway, and the metrics that read what runs.
        let observer = GatewayObserver::new(Arc::clone(&logs), gateway_metrics, Arc::clone(&sites));
        let gateway = Gateway::inheriting(inherited_sockets(config)?, Arc::new(observer));
        let running = Snapshot::default();
        let traces = Arc::new(TraceCounts::default());
        registry.register_collector(Box::new(Moment {
            gateway: gateway.clone(),
            traces: Arc::clone(&traces),
            logs: Arc::clone(&logs),
            running: Arc::clone(&running),
        }));
        registry.register_collector(Box::new(UsageCollector(Arc::clone(&logs))));
        let metrics = Metrics {
            registry: Arc::new(registry),
            process,
        };
        let health = Arc::new(Health {
            metrics: metrics.clone(),
            running: Arc::clone(&running),
        });

        // The sites, and what they share.
        let drains = Drains::default();
        let store = OpenStore::default();
        let keys = OpenKeys::default();
        // Ends with the runtime.
        let history = History::default();
        tokio::spawn(history.clone().record(Arc::clone(&sites)));
        let deployments = OpenDeployments::default();
        let status = (options.development.as_ref()).map(|made| Arc::clone(&made.status));
        let directory = Arc::new(Directory::new(status));
        let context = Arc::new(SiteContext {
            supervisor: supervisor.clone(),
            brokers: Brokers::new(egress.clone()),
            grants,
            directory: Arc::clone(&directory),
            metrics: sites,
            logs: Arc::clone(&logs),
            receipts: ReceiptWriter::start(options.v8).map_err(|source| ServeError::System {
                what: "starting the thread of receipts",
                source,
            })?,
            tracing: CurrentTracing::default(),
        });
        let previews = Previews::new(
            Arc::clone(&context),
            Arc::clone(&running),
            Arc::clone(&deployments),
            drains.clone(),
        );

        // The admin API.
        let admin = Arc::new(Admin {
            config_path: options.config.clone(),
            started: SystemTime::now(),
            running: Arc::clone(&running),
            gateway: gateway.clone(),
            logs: Arc::clone(&logs),
            metrics: metrics.clone(),
            history: history.clone(),
            keys: Arc::clone(&keys),
            deployments: Arc::clone(&deployments),
            previews: Arc::clone(&previews),
            commands,
        });
        let admin_target = AdminTarget {
            admin: Arc::clone(&admin),
            router: admin::router(&admin),
        };

        // The subsystems, in the order in which a configuration is prepared and committed.
        let subsystems: Vec<Box<dyn Subsystem>> = vec![
            Box::new(Auditing {
                logs: Arc::clone(&logs),
            }),
            Box::new(UsageSubsystem {
                logs: Arc::clone(&logs),
            }),
            Box::new(Certificates { metrics: tls }),
            Box::new(Logging {
                logs: Arc::clone(&logs),
            }),
            Box::new(StateSubsystem {
                open: Arc::clone(&store),
            }),
            Box::new(KeysSubsystem {
                open: Arc::clone(&keys),
                logs: Arc::clone(&logs),
            }),
            Box::new(Counting::default()),
            Box::new(TracingSubsystem {
                counts: traces,
                current: Arc::clone(&context.tracing),
            }),
            Box::new(MetricsListener::new(health)),
            Box::new(AdminListener::new(admin_target)),
            Box::new(TokenKeys(Arc::clone(&context))),
            // Needs the state that is open, and is what the routes lead to.
            Box::new(Sites {
                context,
                egress,
                grants: grant_metrics,
                drains: drains.clone(),
                number: 0,
            }),
            Box::new(Listeners {
                gateway: gateway.clone(),
                directory,
                previews: Arc::clone(&previews),
            }),
        ];
        Ok(Self {
            options,
            supervisor,
            gateway,
            logs,
            metrics,
            subsystems,
            running,
            store,
            keys,
            drains,
            previews,
            deployments,
            sources: Vec::new(),
            admin,
        })
    }
}

fn start_logs(config: &Config) -> Result<Arc<Logs>, ServeError> {
    Ok(Arc::new(Logs {
        log: Log::start(&plan::logging::options(config)).map_err(ServeError::log)?,
        audit: Auditor::default(),
        usage: UsageRecorder::default(),
        refused: RefusedLately::default(),
        policy: ArcSwap::from_pointee(log_policy(config)),
    }))
}

fn start_supervisor(options: &ServeOptions) -> Supervisor {
    let sandbox = SandboxOptions {
        threads: options.threads,
        warm: WARM,
        defaults: IsolateOptions {
            isolation: Isolation::Container,
            ..IsolateOptions::default()
        },
    };
    Supervisor::new(sandbox, options.backends.iter().cloned())
}

/// The sockets that the service manager gave. Warns of those that the configuration does not use.
fn inherited_sockets(config: &Config) -> Result<InheritedSockets, ServeError> {
    let inherited = InheritedSockets::from_environment()?;
    for address in inherited.addresses() {
        let mut listeners = config.listeners.iter();
        if !listeners.any(|listener| listener.address == address) {
            tracing::warn!(%address, "the service manager gave a socket that no listener of the configuration uses");
        }
    }
    Ok(inherited)
}
