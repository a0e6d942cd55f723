//! Every socket of a server, bound before anything is served.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::{Error, Options};
use crate::config::Config;

pub(super) struct Sockets {
    pub(super) proxy: Vec<TcpListener>,
    pub(super) proxy_tls: Vec<TcpListener>,
    pub(super) web: Option<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

impl Sockets {
    pub(super) fn bind(config: &Config, options: &Options) -> Result<Self, Error> {
        if options.own.is_some() {
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let proxy = vec![listen("proxy.listen", loopback)?];
            return Ok(Self { proxy, proxy_tls: Vec::new(), web: None, admin: None });
        }
        let all = |key, addresses: &[SocketAddr]| {
            addresses.iter().map(|address| listen(key, *address)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            proxy: all("proxy.listen", &config.proxy.listen)?,
            proxy_tls: all("proxy.tls_listen", &config.proxy.tls_listen)?,
            web: config.web.listen.map(|address| listen("web.listen", address)).transpose()?,
            admin: config
                .admin
                .listen
                .map(|address| listen("admin.listen", address))
                .transpose()?,
        })
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let all = self.proxy.iter().chain(&self.proxy_tls).chain(&self.web).chain(&self.admin);
        all.filter_map(address_of).collect()
    }
}

pub(super) fn address_of(socket: &TcpListener) -> Option<SocketAddr> {
    socket.local_addr().ok()
}

/// Connections that wait to be accepted: enough for a burst while descriptors are short.
const BACKLOG: u32 = 1024;

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| Error::Bind { key, address, source })
}
