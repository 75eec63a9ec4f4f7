//! The proxy of a rule: where it is, who Stockade is to it, and who resolves names.

use stockade_http::Host;

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::Format;
use crate::secret::SecretRef;
use crate::tree::Message;
use crate::value::from_text;

/// A proxy.
pub(crate) const PROXY: Format = Format {
    what: "a proxy with its port, as http://proxy.example:3128, https://proxy.example:443 or socks5://127.0.0.1:1080",
    pattern: Some(r"^(http|https|socks5)://[^/@\s]+:[0-9]{1,5}/?$"),
    expect: None,
};

/// The keys of a rule that are about its proxy.
const OF_PROXY: [&str; 2] = ["proxy_credentials", "proxy_resolves"];

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS, version 5.
    Socks5,
}

/// Where a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// What it speaks.
    pub scheme: ProxyScheme,
    /// A name or an address.
    pub host: Host,
    /// The port.
    pub port: u16,
}

from_text! {
    ProxyUrl = proxy,
}

fn proxy(text: &str) -> Result<ProxyUrl, Message> {
    if text.contains('@') {
        let what = "the URL of a proxy must not contain a user name or a password";
        let allowed =
            "proxy_credentials: {file: path} or {variable: NAME}, with user:password in it";
        return Err(Message::allowed(what, allowed));
    }
    let wrong = || {
        let what = format!("{:?} is no proxy", shown(text));
        Message::allowed(what, PROXY.what)
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let scheme = match scheme {
        "http" => ProxyScheme::Http,
        "https" => ProxyScheme::Https,
        "socks5" => ProxyScheme::Socks5,
        _ => return Err(wrong()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0);
    Ok(ProxyUrl {
        scheme,
        host: Host::parse(host).map_err(|_| wrong())?,
        port: port.ok_or_else(wrong)?,
    })
}

/// Reads the key with the credentials.
pub(crate) fn credentials(rule: &Fields<'_>) -> Option<SecretRef> {
    SecretRef::of(rule, "proxy_credentials")
}

/// Reports what is wrong with the proxy and the client certificate of a rule.
pub(crate) fn check(rule: &Fields<'_>) {
    if rule.has("client_certificate") != rule.has("client_key") {
        let at = ["client_certificate", "client_key"]
            .into_iter()
            .find(|key| rule.has(key));
        let what = "a client certificate and its key are used together";
        let allowed = "both `client_certificate` and `client_key`, or neither";
        rule.refuse(at.unwrap_or_default(), Message::allowed(what, allowed));
    }
    for key in OF_PROXY
        .iter()
        .filter(|key| rule.has(key) && !rule.has("proxy"))
    {
        let message = Message::allowed(
            "there is no proxy that this is about",
            "the key `proxy` too",
        );
        rule.refuse(key, message);
    }
    if rule.has("via") && rule.has("proxy") {
        let what = "the connections of a rule go through a tunnel or through a proxy";
        let allowed = "`via` or `proxy`, not both";
        rule.refuse("proxy", Message::allowed(what, allowed));
    }
    if !rule.has("proxy") || !rule.get::<bool>("proxy_resolves") {
        return;
    }
    if rule.has("addresses") {
        let what = "the addresses of a name are not known where the proxy resolves it";
        let allowed = "a rule without `addresses`, or proxy_resolves: false";
        rule.refuse("addresses", Message::allowed(what, allowed));
    }
    let what = "the proxy decides which addresses these names have: Stockade does not check them, and names can lead to \
                the proxy's own network";
    rule.warn("proxy_resolves", what.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_has_a_scheme_a_host_and_a_port() {
        let read = |text| proxy(text).ok();
        assert_eq!(
            read("socks5://[::1]:1080"),
            Some(ProxyUrl {
                scheme: ProxyScheme::Socks5,
                host: Host::Address("::1".parse().unwrap()),
                port: 1080,
            })
        );
        assert_eq!(
            read("https://Proxy.example:443/").unwrap().host,
            Host::Name("proxy.example".to_owned())
        );
        for text in [
            "proxy.example:3128",
            "ftp://proxy.example:21",
            "http://proxy.example",
            "http://proxy.example:0",
            "http://proxy.example:80/path",
            "http://user:secret@proxy.example:80",
            "socks5h://proxy.example:1080",
            "http://:80",
        ] {
            let message = proxy(text).err().unwrap();
            assert!(!message.what.contains("secret"), "{text}");
        }
    }
}
