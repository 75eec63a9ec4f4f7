//! Where code is kept that is uploaded.

use std::path::PathBuf;

use stockade_http::{Host, HostPattern};

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{HOST, NEW, integer, size, text};
use crate::section::{Record, section};
use crate::tree::Message;
use crate::url;

section! {
    /// Uploaded code: versions of the code of instances that the admin API takes, and that get requests in place of the
    /// code that `code` names. An instance without a deployment runs its `code`.
    pub struct Deployments "deployments" {
        /// The folder for versions, and for what each instance runs. It is created with mode 0700 if it does not exist.
        pub folder: PathBuf = text(NEW).default("./deployments"),
        /// The number of versions of an instance that are kept. Versions in use are kept in any case.
        pub keep: usize = integer(1, 1000).default("20"),
        /// Size of the files of one version.
        pub max_bundle: u64 = size(1 << 10, 256 << 20).default("32mb"),
        /// The domain of previews. Each version answers at `VERSION.INSTANCE.` before this domain, to those that
        /// the instance lets in. Names of the domain must lead here, and have a certificate where there is TLS.
        pub preview_domain: Option<String> = text(HOST).like(&["preview.example.com"]) => preview_domain,
    }
}

fn preview_domain(fields: &Fields<'_>) -> Option<String> {
    fields.value("preview_domain", |reader, value, kind| {
        reader.parsed(value, kind, |text| match url::host(text)? {
            HostPattern::Exact(Host::Name(name)) => Ok(name),
            _ => Err(Message::allowed(
                format!("{:?} is not the name of one host", shown(text)),
                "a name, as preview.example.com",
            )),
        })
    })
}

/// Reads `deployments` of the file.
pub(crate) fn deployments(top: &Fields<'_>) -> Option<Deployments> {
    let fields = top.switch("deployments", false)?;
    Some(Deployments::read(&fields))
}
