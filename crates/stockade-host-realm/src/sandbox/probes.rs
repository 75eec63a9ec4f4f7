//! Ops that find out about a running isolate: CPU profile, heap snapshot, heap statistics.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use deno_core::{OpState, op2};
use stockade_profile::{CpuProfile, flame_graph};
use stockade_protocol::HeapStatistics;
use stockade_supervisor::{ProbeError, write_private};

use super::ops::{SandboxError, handle};

/// Records for `seconds`, and writes a `.cpuprofile` to `path` and, where that is not empty, a picture of it to `picture`.
#[op2]
pub(crate) async fn op_isolate_cpu_profile(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] path: String,
    seconds: f64,
    #[string] picture: String,
) -> Result<(), SandboxError> {
    let handle = handle(&state.borrow(), sandbox, isolate)?;
    let time = Duration::try_from_secs_f64(seconds)
        .map_err(|error| SandboxError::Seconds(error.to_string()))?;
    let write = async |file| handle.cpu_profile(time, file).await;
    write_private(Path::new(&path), write).await?;
    if !picture.is_empty() {
        let title = match &handle.options().name {
            Some(name) => format!("isolate #{isolate} {name}"),
            None => format!("isolate #{isolate}"),
        };
        let draw = move || draw(Path::new(&path), Path::new(&picture), &title);
        let drawn = tokio::task::spawn_blocking(draw).await;
        drawn.map_err(|error| ProbeError::Write(error.into()))??;
    }
    Ok(())
}

/// Draws a profile.
fn draw(profile: &Path, picture: &Path, title: &str) -> Result<(), SandboxError> {
    let text = std::fs::read(profile).map_err(ProbeError::Write)?;
    let profile =
        CpuProfile::read(&text).map_err(|error| SandboxError::Profile(error.to_string()))?;
    let drawn = flame_graph(&profile, title);
    std::fs::write(picture, drawn).map_err(|source| {
        let path = picture.display().to_string();
        ProbeError::Create { path, source }
    })?;
    Ok(())
}

/// Writes a `.heapsnapshot` to `path`.
#[op2]
pub(crate) async fn op_isolate_heap_snapshot(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] path: String,
) -> Result<(), SandboxError> {
    let handle = handle(&state.borrow(), sandbox, isolate)?;
    let write = async |file| handle.heap_snapshot(file).await;
    write_private(Path::new(&path), write).await?;
    Ok(())
}

#[op2]
#[serde]
pub(crate) async fn op_isolate_heap_statistics(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
) -> Result<HeapStatistics, SandboxError> {
    let handle = handle(&state.borrow(), sandbox, isolate)?;
    Ok(handle.heap_statistics().await?)
}
