//! Files about the guest of a command: CPU profile, flame graph, heap snapshot.

use std::path::{Path, PathBuf};

use clap::Args;
use stockade::profile::{CpuProfile, flame_graph};
use stockade::{CpuRecording, Handle, write_private};

use super::exit;
use super::failure::Failure;

/// What is recorded of a guest.
#[derive(Args)]
pub(crate) struct RecordedArgs {
    /// Write where the guest's CPU time went, for Chrome's DevTools; the name ends in .cpuprofile
    #[arg(long, value_name = "FILE")]
    cpu_profile: Option<PathBuf>,

    /// Write the same as a picture, an SVG file
    #[arg(long, value_name = "FILE")]
    flame_graph: Option<PathBuf>,

    /// Write what the guest's heap holds at its end, for Chrome's DevTools; the name ends in .heapsnapshot
    #[arg(long, value_name = "FILE")]
    heap_snapshot: Option<PathBuf>,
}

impl RecordedArgs {
    /// Whether the guest is recorded from its start.
    pub(crate) fn records_cpu(&self) -> bool {
        self.cpu_profile.is_some() || self.flame_graph.is_some()
    }

    /// Writes the files. The guest has nothing left to do, and has not ended.
    pub(crate) async fn write(&self, handle: &Handle, title: &str) -> Result<(), Failure> {
        if let Some(recording) = handle.recording() {
            match (&self.cpu_profile, &self.flame_graph) {
                (Some(profile), picture) => {
                    record(recording, profile, picture.as_deref(), title).await?;
                }
                // The profile has the picture's place until it is drawn.
                (None, Some(picture)) => {
                    record(recording, picture, Some(picture), title).await?;
                }
                (None, None) => {}
            }
        }
        if let Some(path) = &self.heap_snapshot {
            let write = async |file| handle.heap_snapshot(file).await;
            write_private(path, write).await.map_err(failed)?;
        }
        Ok(())
    }
}

async fn record(
    recording: CpuRecording,
    profile: &Path,
    picture: Option<&Path>,
    title: &str,
) -> Result<(), Failure> {
    let write = async |file| recording.finish(file).await;
    write_private(profile, write).await.map_err(failed)?;
    match picture {
        Some(picture) => draw(profile, picture, title).map_err(failed),
        None => Ok(()),
    }
}

/// Draws the flame graph of a profile.
pub(crate) fn draw(profile: &Path, picture: &Path, title: &str) -> Result<(), String> {
    let named =
        |path: &Path, error: &dyn std::fmt::Display| format!("'{}': {error}", path.display());
    let text = std::fs::read(profile).map_err(|error| named(profile, &error))?;
    let read = CpuProfile::read(&text).map_err(|error| named(profile, &error))?;
    let drawn = flame_graph(&read, title);
    std::fs::write(picture, drawn).map_err(|error| named(picture, &error))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new("not_recorded", error.to_string(), exit::FAILED)
}
