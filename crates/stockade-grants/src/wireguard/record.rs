//! The peers that a grant has made, on disk: what it may change, and what it sets again when the interface lost it.
//!
//! Invariant: the file is replaced completely or not at all, and only its user may read it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use stockade_limits::without_value;

/// Bytes of the file.
const MOST_RECORD_BYTES: u64 = 16 << 20;

/// A peer that the grant made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// Its networks.
    #[serde(with = "texts")]
    pub(super) allowed_ips: Vec<IpNet>,
    /// As Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preshared_key: Option<String>,
    /// The client's, where the host made it; as Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) private_key: Option<String>,
}

/// Networks as a list of texts.
mod texts {
    use ipnet::IpNet;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(nets: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(nets.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let nets = texts
            .iter()
            .map(|text| text.parse().map_err(D::Error::custom));
        nets.collect()
    }
}

/// The peers by their public keys, as Base64.
pub(super) type Peers = BTreeMap<String, Made>;

/// The file of a grant.
#[derive(Debug, Clone)]
pub(super) struct Record {
    path: PathBuf,
}

impl Record {
    /// The record in a folder of the grant's own. Nothing is read yet. An interface has a file of its own, so that a
    /// grant of another one does not take over what was made on this.
    pub(super) fn new(folder: &Path, interface: &str) -> Self {
        Self {
            path: folder.join(format!("peers-{interface}.json")),
        }
    }

    /// Reads it; without a file there are no peers.
    pub(super) fn read(&self) -> io::Result<Peers> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Peers::new()),
            file => file?,
        };
        if file.metadata()?.len() > MOST_RECORD_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // It has keys of clients.
        serde_json::from_reader(io::BufReader::new(file))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, without_value(&error)))
    }

    /// Replaces it, durably.
    pub(super) fn write(&self, peers: &Peers) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(&serde_json::to_vec(peers)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn record_is_what_was_written_and_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record::new(&folder.path().join("new"), "wg0");
        assert_eq!(record.read().unwrap(), Peers::new());
        let made = Made {
            allowed_ips: vec!["10.8.0.2/32".parse().unwrap()],
            preshared_key: None,
            private_key: Some("secret".to_owned()),
        };
        let peers = Peers::from([("key".to_owned(), made)]);
        record.write(&peers).unwrap();
        assert_eq!(record.read().unwrap(), peers);
        let mode = fs::metadata(&record.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&record.path, "{").unwrap();
        assert!(
            record.read().is_err(),
            "a damaged record is not an empty one"
        );
        fs::write(&record.path, r#"{"key": {"allowed_ips": "hunter2"}}"#).unwrap();
        let error = record.read().unwrap_err().to_string();
        assert!(
            error.contains("line 1") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
