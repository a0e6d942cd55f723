//! HTTPS without a front: with the operator's certificate, or with one of the local CA for the
//! listener's own names.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::host::Host;
use crate::proxy::ca::CertificateAuthority;

/// Whose certificate browsers see.
pub enum Tls {
    /// Renewed while it listens.
    Own(Arc<ArcSwap<ServerConfig>>),
    Local {
        ca: Arc<CertificateAuthority>,
        hosts: Vec<Host>,
    },
}

impl Tls {
    pub fn local(ca: Arc<CertificateAuthority>, hosts: Vec<Host>) -> Self {
        Self::Local { ca, hosts }
    }

    /// `None`: the handshake failed, or a name was asked for that is not ours.
    pub async fn accept<S>(&self, stream: S, local: Option<SocketAddr>) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start =
            LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.ok()?;
        let config = match self {
            Self::Own(config) => config.load_full(),
            Self::Local { ca, hosts } => {
                let hello = start.client_hello();
                let host = named(hello.server_name(), local, hosts)?;
                Arc::new(http1_only((*ca.server_config(&host).ok()?).clone()))
            }
        };
        start.into_stream(config).await.ok()
    }
}

/// Who names no host means the address that was dialled.
fn named(name: Option<&str>, local: Option<SocketAddr>, hosts: &[Host]) -> Option<Host> {
    let Some(name) = name else { return local.map(|local| Host::from_ip(local.ip())) };
    let host: Host = name.parse().ok()?;
    (host.as_str() == "localhost" || hosts.contains(&host)).then_some(host)
}

/// The listener speaks HTTP/1.1 only.
pub fn http1_only(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_ca_vouches_for_our_own_names_only() {
        let hosts = ["cs.internal.example".parse().expect("a host")];
        let local = Some("127.0.0.1:8443".parse().expect("an address"));
        for (name, host) in [
            (Some("localhost"), Some("localhost")),
            (Some("CS.internal.example"), Some("cs.internal.example")),
            (Some("evil.test"), None),
            (None, Some("127.0.0.1")),
        ] {
            let found = named(name, local, &hosts).map(|host| host.to_string());
            assert_eq!(found.as_deref(), host, "{name:?}");
        }
    }
}
