//! The folder of all versions and deployments.
//!
//! ```text
//! lock                                     held by the server that uses the folder
//! INSTANCE/versions/VERSION/version.json   what is known of a version
//! INSTANCE/versions/VERSION/files/…        its files
//! INSTANCE/deployment.json                 which versions get requests
//! INSTANCE/incoming/…                      what is being written; removed at the start
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use super::version::{Deployment, VersionId, VersionRef};

/// What is known of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionRecord {
    /// SHA-256 of its files, of which its name is the beginning.
    pub(crate) digest: String,
    /// The module that is run, where it is not an `index` file.
    pub(crate) main: Option<String>,
    /// When it was uploaded, in seconds since 1970.
    pub(crate) created: u64,
    /// Who uploaded it.
    pub(crate) caller: String,
    /// What they say about it.
    pub(crate) message: String,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// What is said of a version when it is uploaded.
pub(crate) struct AboutVersion {
    pub(crate) main: Option<String>,
    pub(crate) created: u64,
    pub(crate) caller: String,
    pub(crate) message: String,
}

/// Why the folder does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Another server uses it.
    #[error(
        "{path}: another server uses this folder of deployments\n  fix: give each server a folder of its own"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that was not written by this program.
    #[error("{path}: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> DeployError {
    let path = path.into();
    move |source| DeployError::File { path, source }
}

/// The folder, as long as this process uses it.
pub(crate) struct DeploymentStore {
    folder: PathBuf,
    /// Counts what is being written, so that each has a name of its own.
    incoming: AtomicU64,
    /// Locked while a deployment changes, or old versions are removed.
    pub(crate) changing: tokio::sync::Mutex<()>,
    _lock: File,
}

impl DeploymentStore {
    /// Opens or makes the folder, and removes what was being written when the last process ended.
    ///
    /// # Errors
    /// When another process uses it, or the system refuses.
    pub(crate) fn open(folder: &Path) -> Result<Self, DeployError> {
        make_folder(folder).map_err(at(folder))?;
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(&path).map_err(at(&path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DeployError::Locked {
                    path: folder.to_owned(),
                });
            }
            Err(error) => return Err(at(&path)(error.into())),
        }
        for instance in fs::read_dir(folder).map_err(at(folder))? {
            let incoming = instance.map_err(at(folder))?.path().join("incoming");
            match fs::remove_dir_all(&incoming) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Err(at(&incoming)(error));
                }
                _ => {}
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            incoming: AtomicU64::new(0),
            changing: tokio::sync::Mutex::new(()),
            _lock: lock,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn of(&self, instance: &str) -> PathBuf {
        // Names of instances have letters, digits and hyphens only.
        self.folder.join(instance)
    }

    fn version_folder(&self, instance: &str, version: &VersionId) -> PathBuf {
        self.of(instance).join("versions").join(version.as_str())
    }

    /// Where the files of a version are.
    pub(crate) fn files_of(&self, instance: &str, version: &VersionId) -> PathBuf {
        self.version_folder(instance, version).join("files")
    }

    /// A folder for something that is being written.
    fn begin(&self, instance: &str) -> Result<Incoming, DeployError> {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        let path = self.of(instance).join("incoming").join(number.to_string());
        make_folder(&path).map_err(at(&path))?;
        Ok(Incoming { path })
    }

    /// Keeps a bundle as a version. The same bundle is the same version: then nothing changes. `check` sees the files
    /// before the version is there; where it refuses, it never is.
    ///
    /// # Errors
    /// What `check` says, or when the system refuses.
    pub(crate) fn add<E: From<DeployError>>(
        &self,
        instance: &str,
        bundle: &Bundle,
        about: AboutVersion,
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(VersionId, VersionRecord), E> {
        let digest = bundle.digest(about.main.as_deref());
        let id = Bundle::id_of(&digest)
            .ok_or_else(|| damaged(&self.folder, "a digest without a name"))?;
        if let Some(record) = self.version(instance, &id)? {
            if record.digest != digest {
                let why = "another version has the same name: change a file of the bundle";
                return Err(damaged(&self.version_folder(instance, &id), why).into());
            }
            return Ok((id, record));
        }
        let record = VersionRecord {
            digest,
            main: about.main,
            created: about.created,
            caller: about.caller,
            message: about.message,
            files: bundle.files().count(),
            bytes: bundle.bytes(),
        };
        let incoming = self.begin(instance)?;
        let files = incoming.path.join("files");
        write_files(&files, bundle)?;
        check(&files)?;
        write_json(&incoming.path, "version.json", &record)?;
        sync_folder(&incoming.path)?;
        let target = self.version_folder(instance, &id);
        let parent = self.of(instance).join("versions");
        make_folder(&parent).map_err(at(&parent))?;
        match fs::rename(&incoming.path, &target) {
            // Another upload of the same bundle was faster.
            Err(_) if self.version(instance, &id)?.is_some() => {}
            renamed => renamed.map_err(at(&target))?,
        }
        sync_folder(&parent)?;
        sync_folder(&self.of(instance))?;
        sync_folder(&self.folder)?;
        Ok((id, record))
    }

    /// What is known of a version; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn version(
        &self,
        instance: &str,
        version: &VersionId,
    ) -> Result<Option<VersionRecord>, DeployError> {
        read_json(&self.version_folder(instance, version).join("version.json"))
    }

    /// All versions of an instance, the latest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn versions(
        &self,
        instance: &str,
    ) -> Result<Vec<(VersionId, VersionRecord)>, DeployError> {
        let folder = self.of(instance).join("versions");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&folder)(error)),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry.map_err(at(&folder))?.file_name();
            let Some(id) = name.to_str().and_then(VersionId::parse) else {
                continue;
            };
            if let Some(record) = self.version(instance, &id)? {
                versions.push((id, record));
            }
        }
        versions.sort_by(|(a, one), (b, other)| (other.created, b).cmp(&(one.created, a)));
        Ok(versions)
    }

    /// Removes a version. It is renamed first, so that it is never there in part.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn remove(&self, instance: &str, version: &VersionId) -> Result<(), DeployError> {
        let incoming = self.begin(instance)?;
        let target = self.version_folder(instance, version);
        fs::rename(&target, incoming.path.join("removed")).map_err(at(&target))
    }

    /// Removes the oldest versions that no deployment names which can be rolled back to, beyond `keep`.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn prune(
        &self,
        instance: &str,
        keep: usize,
        deployment: &Deployment,
    ) -> Result<(), DeployError> {
        let back = deployment.before().map(|past| past.traffic.as_slice());
        let used = |id: &VersionId| {
            let version = VersionRef::Uploaded(id.clone());
            let is_before =
                back.is_some_and(|traffic| traffic.iter().any(|one| one.version == version));
            deployment.has(&version) || is_before
        };
        for (id, _) in self.versions(instance)?.iter().skip(keep) {
            if !used(id) {
                self.remove(instance, id)?;
            }
        }
        Ok(())
    }

    /// The deployment of an instance.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn deployment(&self, instance: &str) -> Result<Deployment, DeployError> {
        let found = read_json(&self.of(instance).join("deployment.json"))?;
        Ok(found.unwrap_or_default())
    }

    /// Whether all records can be read, and the versions are there that deployments name.
    ///
    /// # Errors
    /// The first that cannot, or is not.
    pub(crate) fn verify(&self) -> Result<(), DeployError> {
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let name = entry.map_err(at(&self.folder))?.file_name();
            let Some(instance) = name.to_str().filter(|name| self.of(name).is_dir()) else {
                continue;
            };
            self.versions(instance)?;
            for share in self.deployment(instance)?.traffic {
                if let VersionRef::Uploaded(id) = share.version
                    && self.version(instance, &id)?.is_none()
                {
                    let why = format!("the version {id} is missing, which its deployment names");
                    return Err(damaged(&self.of(instance), &why));
                }
            }
        }
        Ok(())
    }

    /// Makes this the deployment of an instance.
    ///
    /// # Errors
    /// When the system refuses; then it is the one before.
    pub(crate) fn set_deployment(
        &self,
        instance: &str,
        deployment: &Deployment,
    ) -> Result<(), DeployError> {
        let incoming = self.begin(instance)?;
        write_json(&incoming.path, "deployment.json", deployment)?;
        let target = self.of(instance).join("deployment.json");
        fs::rename(incoming.path.join("deployment.json"), &target).map_err(at(&target))?;
        sync_folder(&self.of(instance))?;
        sync_folder(&self.folder)
    }
}

/// Something that is being written. What has not been moved elsewhere is removed with it.
struct Incoming {
    path: PathBuf,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Once it was moved, there is nothing; else the next start removes it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn damaged(path: &Path, why: &str) -> DeployError {
    DeployError::Damaged {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn sync_folder(path: &Path) -> Result<(), DeployError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(at(path))
}

fn write_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Writes all files of a bundle, and its folders, onto the disk.
fn write_files(folder: &Path, bundle: &Bundle) -> Result<(), DeployError> {
    let mut folders = std::collections::BTreeSet::from([folder.to_owned()]);
    make_folder(folder).map_err(at(folder))?;
    for (path, contents) in bundle.files() {
        let path = folder.join(path);
        let parents = path.ancestors().skip(1);
        let new: Vec<PathBuf> = parents
            .take_while(|parent| *parent != folder)
            .map(Path::to_owned)
            .collect();
        if let Some(parent) = path.parent() {
            make_folder(parent).map_err(at(parent))?;
        }
        folders.extend(new);
        write_file(&path, contents).map_err(at(&path))?;
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), DeployError> {
    let path = folder.join(name);
    let text = serde_json::to_vec(value).map_err(|error| at(&path)(error.into()))?;
    write_file(&path, &text).map_err(at(&path))
}

/// Reads what `write_json` wrote; `None` where there is nothing.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, DeployError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let read = serde_json::from_slice(&text);
    read.map(Some)
        .map_err(|error| damaged(path, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployments::{Share, Sticky};

    fn bundle(text: &str) -> Bundle {
        let files = [("index.ts", text), ("lib/deep/a.ts", "1")];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        Bundle::from_texts(files, 10_000).unwrap()
    }

    fn about(created: u64) -> AboutVersion {
        AboutVersion {
            main: None,
            created,
            caller: "test".to_owned(),
            message: String::new(),
        }
    }

    fn add(store: &DeploymentStore, text: &str, created: u64) -> VersionId {
        let added = store.add("shop", &bundle(text), about(created), |_| {
            Ok::<_, DeployError>(())
        });
        added.unwrap().0
    }

    fn only(version: &VersionId) -> Vec<Share> {
        vec![Share {
            version: VersionRef::Uploaded(version.clone()),
            percent: 100,
        }]
    }

    #[test]
    fn versions_and_deployments_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = DeploymentStore::open(folder.path()).unwrap();
        assert!(matches!(
            DeploymentStore::open(folder.path()),
            Err(DeployError::Locked { .. })
        ));
        let (a, b) = (add(&store, "a", 1), add(&store, "b", 2));
        assert_eq!(add(&store, "a", 3), a);
        let files = store.files_of("shop", &a);
        assert_eq!(fs::read_to_string(files.join("index.ts")).unwrap(), "a");
        assert_eq!(
            fs::read_to_string(files.join("lib/deep/a.ts")).unwrap(),
            "1"
        );
        let ids = |store: &DeploymentStore| -> Vec<VersionId> {
            let versions = store.versions("shop").unwrap();
            versions.into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(ids(&store), [b.clone(), a.clone()]);
        assert_eq!(store.deployment("shop").unwrap(), Deployment::default());
        let next = Deployment::default()
            .next(only(&a), Sticky::Cookie, 5, "me".to_owned())
            .unwrap();
        store.set_deployment("shop", &next).unwrap();
        drop(store);
        let store = DeploymentStore::open(folder.path()).unwrap();
        assert_eq!(store.deployment("shop").unwrap(), next);
        // What is in use, and what it would be rolled back to, is never removed.
        let c = add(&store, "c", 4);
        let last = next
            .next(only(&b), Sticky::None, 6, "me".to_owned())
            .unwrap();
        let d = add(&store, "d", 5);
        store.prune("shop", 1, &last).unwrap();
        assert_eq!(ids(&store), [d, b, a]);
        assert_eq!(store.version("shop", &c).unwrap(), None);
        assert_eq!(
            fs::read_dir(folder.path().join("shop/incoming"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn version_that_is_refused_is_never_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = DeploymentStore::open(folder.path()).unwrap();
        let refused = store.add("shop", &bundle("a"), about(1), |files| {
            assert!(files.join("index.ts").exists());
            Err(damaged(files, "no"))
        });
        assert!(refused.is_err());
        assert!(store.versions("shop").unwrap().is_empty());
    }

    /// What a process that is killed at any instant leaves: before each call that changes the folder, it is copied, and
    /// the copy is opened as after a crash.
    #[test]
    fn process_killed_at_any_instant_leaves_the_old_or_the_new() {
        let name = "deployments::store::tests::writes_until_it_is_killed";
        let test = std::env::current_exe().unwrap();
        let kills: u32 = std::env::var("STOCKADE_TEST_KILLS").map_or(60, |n| n.parse().unwrap());
        let (mut olds, mut news) = (0, 0);
        for round in 0..kills {
            let folder = tempfile::tempdir().unwrap();
            let mut child = std::process::Command::new(&test)
                .args(["--exact", name, "--nocapture", "--include-ignored"])
                .env("STOCKADE_TEST_DEPLOYMENTS", folder.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            // Each round another instant of its work, from the first deployment on.
            while !folder.path().join("shop/deployment.json").exists() {
                assert!(child.try_wait().unwrap().is_none(), "the writer ended");
                std::thread::yield_now();
            }
            let until = std::time::Instant::now()
                + std::time::Duration::from_micros(u64::from(round) * 377);
            while std::time::Instant::now() < until {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();

            let store = DeploymentStore::open(folder.path()).unwrap();
            let deployment = store.deployment("shop").unwrap();
            let [share] = deployment.traffic.as_slice() else {
                panic!("{deployment:?}");
            };
            let VersionRef::Uploaded(id) = &share.version else {
                panic!("{deployment:?}");
            };
            assert!(store.version("shop", id).unwrap().is_some());
            for (id, record) in store.versions("shop").unwrap() {
                let files = store.files_of("shop", &id);
                let text = fs::read_to_string(files.join("index.ts")).unwrap();
                let whole = bundle(&text);
                assert_eq!(whole.digest(None), record.digest);
                assert_eq!(
                    fs::read_to_string(files.join("lib/deep/a.ts")).unwrap(),
                    "1"
                );
            }
            match deployment.number {
                1 => olds += 1,
                _ => news += 1,
            }
        }
        assert_eq!(olds + news, kills);
        assert!(news > 0, "no round came further than the first deployment");
    }

    /// The process that the test above kills.
    #[test]
    #[ignore = "a part of another test"]
    fn writes_until_it_is_killed() {
        let Ok(folder) = std::env::var("STOCKADE_TEST_DEPLOYMENTS") else {
            return;
        };
        let store = DeploymentStore::open(Path::new(&folder)).unwrap();
        let mut deployment = Deployment::default();
        for number in 0.. {
            let version = add(&store, &number.to_string(), number);
            deployment = deployment
                .next(only(&version), Sticky::None, number, "me".to_owned())
                .unwrap();
            store.set_deployment("shop", &deployment).unwrap();
            store.prune("shop", 3, &deployment).unwrap();
        }
    }
}
