//! The API server, by a new TCP connection: an old one may live on by a way that is gone.

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// One that is there takes a connection in milliseconds.
const CONNECT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    url: String,
    addresses: Vec<SocketAddr>,
}

impl fmt::Display for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl ApiServer {
    /// Of an URL, its name resolved now: after a move nobody may answer who knows names. None
    /// where it names nothing that could be connected to.
    pub fn at(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let port = if scheme == "http" { 80 } else { 443 };
        let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
            !port.is_empty()
                && port.bytes().all(|c| c.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']'))
        });
        let target = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let addresses: Vec<SocketAddr> = target.to_socket_addrs().ok()?.collect();
        (!addresses.is_empty()).then(|| Self { url: url.to_owned(), addresses })
    }

    /// Whether it takes a new connection.
    pub fn answers(&self) -> bool {
        self.addresses.iter().any(|address| TcpStream::connect_timeout(address, CONNECT).is_ok())
    }

    /// Asks again and again until it does; false where it does not in time.
    pub fn answers_within(&self, limit: Duration, mut still_here: impl FnMut()) -> bool {
        let start = Instant::now();
        loop {
            still_here();
            if self.answers() {
                return true;
            }
            if start.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_answers_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::at(&format!("https://{address}/")).unwrap();
        assert!(server.answers());
        drop(listener);
        assert!(!server.answers_within(Duration::ZERO, || {}));
    }

    #[test]
    fn a_port_is_taken_from_the_url_or_from_its_scheme() {
        let at = |url: &str| ApiServer::at(url).map(|server| server.addresses[0].to_string());
        assert_eq!(at("https://10.0.2.2:6443/").as_deref(), Some("10.0.2.2:6443"));
        assert_eq!(at("https://10.0.2.2").as_deref(), Some("10.0.2.2:443"));
        assert_eq!(at("https://[fd00::1]/x").as_deref(), Some("[fd00::1]:443"));
        assert_eq!(at("https://[fd00::1]:6443").as_deref(), Some("[fd00::1]:6443"));
        assert_eq!(at("10.0.2.2"), None);
    }
}
