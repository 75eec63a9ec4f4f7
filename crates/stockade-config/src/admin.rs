//! The listener of the admin API.

use std::net::SocketAddr;
use std::sync::Arc;

use stockade_http::{Host, HostPattern};

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{ADDRESS, HOST, Key, Kind, list, text};
use crate::section::{Record, section};
use crate::tls::{self, Tls};
use crate::tree::Message;
use crate::url;

section! {
    /// The listener of the admin API, for programs on other machines and for browsers. The control socket has the same
    /// API for this user and root. A client needs an API key with the scope `admin`, or a client certificate by
    /// `tls.client_auth`.
    pub struct Admin "admin" {
        /// Address and port. Any other address than one of this machine's own needs `tls`.
        pub listen: SocketAddr = text(ADDRESS).default("127.0.0.1:9901"),
        /// Certificates, and the rule for client certificates. It has no `acme`.
        pub tls: Option<Arc<Tls>> = Key::of(Tls::KIND) => own_tls,
        /// Names of this server in addition to `localhost` and its addresses. A request for any other name is rejected,
        /// since a page in a browser can make such a name lead here.
        pub hosts: Vec<String> = list(&Kind::Text(HOST)).like(&["[admin.example.com]"]) => hosts,
    }
}

fn own_tls(fields: &Fields<'_>) -> Option<Arc<Tls>> {
    fields.find("tls")?.node.map()?;
    tls::read(&fields.own_section("tls")).map(Arc::new)
}

fn hosts(fields: &Fields<'_>) -> Vec<String> {
    fields.texts("hosts", |text| match url::host(text)? {
        HostPattern::Exact(Host::Name(name)) => Ok(name),
        _ => Err(Message::allowed(
            format!("{:?} is not the name of one host", shown(text)),
            "a name, as admin.example.com",
        )),
    })
}

/// Reads `admin` of the file.
pub(crate) fn admin(top: &Fields<'_>) -> Option<Admin> {
    let fields = top.switch("admin", false)?;
    let admin = Admin::read(&fields);
    let tls = admin.tls.as_ref();
    if tls.is_some_and(|tls| tls.acme.is_some()) {
        let what = "this listener orders no certificate";
        fields.refuse(
            "tls",
            Message::allowed(what, "certificates, or cert_path and key_path"),
        );
    }
    if tls.is_none() && !admin.listen.ip().is_loopback() {
        let what = "API keys with the scope admin would cross the network as plain text";
        let allowed = "`tls`, or an address of loopback, as 127.0.0.1:9901";
        fields.refuse("listen", Message::allowed(what, allowed));
    }
    Some(admin)
}
