//! What a client of an interface needs: a file of `wg-quick`, and the same as a QR code.

use std::fmt::{Display, Write as _};

use qrcode::QrCode;
use qrcode::render::svg;
use stockade_config::WireguardGrant;
use stockade_wireguard::Key;

use super::record::Made;

/// Pixels of one side of a QR code, at least.
const SIDE: u32 = 256;

fn joined<T: Display>(list: &[T]) -> String {
    let texts: Vec<_> = list.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// The client's file. Without a private key, its owner adds the line.
pub(super) fn file(grant: &WireguardGrant, peer: &Made, server: &Key, endpoint: &str) -> String {
    let mut text = "[Interface]\n".to_owned();
    match &peer.private_key {
        Some(key) => _ = writeln!(text, "PrivateKey = {key}"),
        None => text.push_str("# PrivateKey = (the private key of this client)\n"),
    }
    let _ = writeln!(text, "Address = {}", joined(&peer.allowed_ips));
    if !grant.dns.is_empty() {
        let _ = writeln!(text, "DNS = {}", joined(&grant.dns));
    }
    let _ = writeln!(text, "\n[Peer]\nPublicKey = {}", server.reveal());
    if let Some(key) = &peer.preshared_key {
        let _ = writeln!(text, "PresharedKey = {key}");
    }
    let _ = writeln!(
        text,
        "Endpoint = {endpoint}\nAllowedIPs = {}",
        joined(&grant.routes)
    );
    text
}

/// A text as a QR code, in SVG; `None` for one that is too long.
pub(super) fn qr(text: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    let mut drawing = code.render::<svg::Color<'_>>();
    Some(drawing.min_dimensions(SIDE, SIDE).build())
}
