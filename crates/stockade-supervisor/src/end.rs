//! How an isolate ended.

use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

/// Why the runtime ended an isolate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TerminateReason {
    /// More CPU time than `cpuLimitMs` or `cpuTotalMs` allows.
    #[strum(serialize = "cpu_limit_exceeded")]
    CpuLimit,
    /// An activation took longer than `wallLimitMs`.
    #[strum(serialize = "wall_limit_exceeded")]
    WallLimit,
    /// More memory than `memoryLimitMb` allows.
    #[strum(serialize = "memory_limit_exceeded")]
    MemoryLimit,
    /// The isolate or its worker broke down.
    Crashed,
    /// The guest tried what its policy forbids.
    PolicyViolation,
}

impl TerminateReason {
    /// The reason of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::VARIANTS
            .iter()
            .copied()
            .find(|reason| reason.name() == name)
    }

    /// The word scripts see.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why an isolate was destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DestroyReason {
    /// The host asked for it.
    #[strum(serialize = "destroyed")]
    Requested,
    /// The whole sandbox was shut down.
    Shutdown,
    /// The runtime ended it; an event `terminated` with the reason came before.
    Terminated,
}

impl DestroyReason {
    /// The word scripts see.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What an isolate had used when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceUsage {
    /// CPU time of the activation that was running, or of the last one.
    pub cpu: Duration,
    /// CPU time over its life.
    pub cpu_total: Duration,
    /// Elapsed time of the activation that was running.
    pub wall: Duration,
    /// Bytes of heap, ArrayBuffers and WebAssembly memory, when last measured.
    pub memory: u64,
}

impl std::fmt::Display for ResourceUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "CPU {:.1} ms ({:.1} ms over its life), elapsed {:.1} ms, memory {:.1} MB",
            ms(self.cpu),
            ms(self.cpu_total),
            ms(self.wall),
            self.memory as f64 / f64::from(1 << 20)
        )
    }
}

/// How and why an isolate ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By the runtime.
    Terminated {
        /// Why.
        reason: TerminateReason,
        /// With what used.
        usage: ResourceUsage,
        /// More, for a person: the limit that was hit, the signal, the system call.
        detail: String,
    },
    /// By the host.
    Destroyed(DestroyReason),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Terminated { reason, detail, .. } if detail.is_empty() => {
                f.write_str(reason.name())
            }
            Self::Terminated { reason, detail, .. } => write!(f, "{} ({detail})", reason.name()),
            Self::Destroyed(reason) => f.write_str(reason.name()),
        }
    }
}
