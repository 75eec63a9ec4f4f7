//! From the configuration of one site to the options of its instance.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use stockade_config::{Instance, Scaling, TemplateUse};
use stockade_instance::{Autoscale, Cron, InstanceLimits, InstanceOptions, MirrorNumbers, Recycle};
use stockade_limits::{ConsoleMode, IsolateOptions, Isolation, Limits};
use stockade_transpile::ModuleFiles;

use crate::capabilities;
use crate::error::SiteError;

/// Where the guest's runtime reads what to put into `env` in addition to values.
const BINDINGS: &str = "\0bindings";

/// Switches the guest's runtime to serving.
const SERVE: &str = "\0serve";

/// The trust group of all sites with isolation `thread`: they share workers, as threads of one process
/// that is not the supervisor's.
const THREADS: &str = "threads";

/// What a guest finds in `env`.
///
/// # Errors
/// A grant whose details cannot be said, because it cannot be opened.
pub(crate) fn environment<'a>(
    site: &Instance,
    secrets: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Map<String, Value>, SiteError> {
    let mut env: Map<String, Value> = site
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in secrets {
        env.insert(name.to_owned(), Value::from(value));
    }
    let mut bindings = Map::new();
    for (name, kind) in capabilities::granted(site) {
        let details = site.grants.get(name).map(stockade_grants::describe);
        let details = details.transpose().map_err(|source| SiteError::Grant {
            name: name.to_owned(),
            source,
        })?;
        bindings.insert(name.to_owned(), json!({ "kind": kind, "details": details }));
    }
    env.insert(BINDINGS.to_owned(), Value::Object(bindings));
    env.insert(SERVE.to_owned(), Value::Bool(true));
    Ok(env)
}

fn isolate(site: &Instance, env: Map<String, Value>, code: Option<ModuleFiles>) -> IsolateOptions {
    let (modules, main) =
        code.map_or_else(Default::default, |files| (files.modules, Some(files.entry)));
    let (isolation, group) = match site.isolation {
        // Never a thread of the supervisor, which runs no guest and no V8.
        Isolation::Thread => (Isolation::Container, Some(THREADS.to_owned())),
        other => (other, None),
    };
    let limits = &site.limits;
    IsolateOptions {
        name: Some(site.name.clone()),
        isolation,
        group,
        template: (site.template == TemplateUse::Own).then(|| site.name.clone()),
        wx: site.wx,
        cgroup: site.cgroup,
        kill_grace: limits.kill_grace,
        limits: Limits {
            cpu: Some(limits.cpu),
            cpu_share: limits.cores,
            wall: Some(limits.wall),
            memory: Some(limits.memory),
            io_ops: limits.io_ops,
            io_bytes: limits.bandwidth,
            pending_requests: limits.subrequests,
            ..Limits::default()
        },
        env,
        modules,
        main,
        console: ConsoleMode::Event,
        inspect: site.inspect,
        ..IsolateOptions::default()
    }
}

fn scaling(scaling: &Scaling) -> stockade_instance::Scaling {
    match scaling {
        Scaling::Fixed(mirrors) => stockade_instance::Scaling::Fixed(*mirrors),
        Scaling::Auto(auto) => stockade_instance::Scaling::Auto(Autoscale {
            min: auto.min,
            max: auto.max,
            initial: auto.initial,
            cpu_percent: Some(auto.cpu_percent),
            requests_per_mirror: auto.requests_per_mirror,
            stable_window: auto.stable_window,
            panic_window: auto.panic_window,
            idle: auto.idle,
            ..Autoscale::default()
        }),
    }
}

/// What makes the site's instance.
pub(crate) fn options(
    site: &Instance,
    env: Map<String, Value>,
    code: Option<ModuleFiles>,
    socket_message: usize,
) -> InstanceOptions {
    let limits = &site.limits;
    InstanceOptions {
        name: site.name.as_str().into(),
        isolate: Arc::new(isolate(site, env, code)),
        scaling: scaling(&site.scaling),
        limits: InstanceLimits {
            concurrency: limits.concurrency,
            queue: limits.queue,
            queue_wait: limits.queue_timeout,
            start: limits.start_timeout,
            wall: limits.timeout,
            wait_until: limits.wait_until,
            request_body: Some(limits.max_body),
            response_body: limits.max_response,
            sockets: limits.websockets,
            pipes: limits.connections,
            socket_message,
            ..InstanceLimits::default()
        },
        recycle: Recycle {
            requests: site.recycle.requests,
            memory: site.recycle.memory,
            age: site.recycle.age,
        },
        fresh: site.fresh,
        crons: site
            .crons
            .iter()
            .map(|cron| Cron::new(&cron.text, cron.times.clone()))
            .collect(),
        numbers: MirrorNumbers::default(),
    }
}
