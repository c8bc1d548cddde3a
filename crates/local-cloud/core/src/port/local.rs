//! Which requests a port of this machine answers. Every web page that is open on the machine can reach a port
//! on 127.0.0.1: a browser sends forms and loads pictures from anywhere without asking, and a page whose name
//! resolves to 127.0.0.1 (DNS rebinding) may even read the answers. A page cannot forge `Host`, `Origin`,
//! `Referer` and `Sec-Fetch-Site`, so they show where a request comes from. Programs send only `Host`.
//! <https://fetch.spec.whatwg.org/#forbidden-request-header>

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// More than one host; <https://www.rfc-editor.org/rfc/rfc9112#section-3.2-6> wants status 400.
    #[error("A request names one host; this one has {0} Host headers.")]
    Hosts(usize),
    /// A name that resolves to this machine, but is not one of its own.
    #[error("This port answers to localhost, *.localhost, 127.0.0.1 and [::1], not to {0:?}.")]
    Host(String),
    /// A web page from elsewhere.
    #[error("This port does nothing for web pages from elsewhere: {0} is {1:?}.")]
    Page(&'static str, String),
}

impl Refused {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Hosts(_) => StatusCode::BAD_REQUEST,
            Self::Host(_) | Self::Page(..) => StatusCode::FORBIDDEN,
        }
    }
}

/// Refuses a request to a name that is not this machine's: in `Host`, or in a request target in absolute form.
pub fn host(head: &Parts) -> Result<(), Refused> {
    let hosts = texts(&head.headers, header::HOST.as_str());
    if hosts.len() > 1 {
        return Err(Refused::Hosts(hosts.len()));
    }
    let target = head.uri.authority().map(|authority| authority.as_str().to_owned());
    let named: Vec<String> = hosts.into_iter().chain(target).collect();
    match named.iter().find(|name| !is_local(name)) {
        Some(name) => Err(Refused::Host(name.clone())),
        None if named.is_empty() => Err(Refused::Host(String::new())),
        None => Ok(()),
    }
}

/// Refuses a request from a web page that is not this machine's.
pub fn page(headers: &HeaderMap) -> Result<(), Refused> {
    for name in ["origin", "referer"] {
        for address in texts(headers, name) {
            // `null`, the origin of a sandboxed frame, has no host.
            let host = address.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
            if !host.is_some_and(is_local) {
                return Err(Refused::Page(name, address));
            }
        }
    }
    // Requests for pictures and links carry it even where the page hides its address.
    // https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
    match texts(headers, "sec-fetch-site").into_iter().find(|site| site.eq_ignore_ascii_case("cross-site")) {
        Some(site) => Err(Refused::Page("sec-fetch-site", site)),
        None => Ok(()),
    }
}

/// Refuses to act on a navigation without origin, such as one from the address bar. A page from elsewhere can
/// redirect the browser to this machine, and `Sec-Fetch-Site` then stays `none`, as in the first request.
/// <https://github.com/w3c/webappsec-fetch-metadata/issues/39>
pub fn navigation(headers: &HeaderMap) -> Result<(), Refused> {
    let navigates =
        texts(headers, "sec-fetch-mode").into_iter().find(|mode| mode.eq_ignore_ascii_case("navigate"));
    match navigates.filter(|_| !headers.contains_key("origin") && !headers.contains_key("referer")) {
        Some(mode) => Err(Refused::Page("sec-fetch-mode", mode)),
        None => Ok(()),
    }
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// Whether `host[:port]` is this machine, for any name server: browsers and resolvers keep `localhost` and
/// the names below it on the loopback interface.
/// <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>
fn is_local(authority: &str) -> bool {
    let Ok(parsed) = authority.parse::<Authority>() else { return false };
    let host = parsed.host().to_ascii_lowercase();
    let known = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost");
    known && !authority.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_four_kinds_of_names_with_any_port() {
        for local in
            ["localhost", "LocalHost:4566", "images.localhost:1", "a.s3.localhost", "127.0.0.1", "[::1]:80"]
        {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "",
            ":4566",
            "evil.example:4566",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.2",
            "0.0.0.0",
            "localhost@evil.example",
            "evil.example@localhost",
            "[::2]",
            "::1",
            "localhost/",
            "localhost localhost",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }
}
