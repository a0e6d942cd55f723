//! `countersign run -- CMD`: one command behind its own listener, with the environment it needs.
//!
//! Touches a private temporary directory, the terminal's standard error, and the child. The child
//! keeps our standard streams and its exit code is ours; it holds no token, because the listener
//! knows its caller and [`peer_uid_matches`] keeps other users out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitStatus;

use anyhow::{Context as _, bail};
#[cfg(unix)]
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::client_files::{self, Java};
use super::environment::{self, Lookup, OUTRANKING, ProxyUrl};

/// Run a command with the proxy, its CA and every variable that clients need
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The caller to run as; may be left out when the configuration has one only
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// Also build a trust store for Java and set JAVA_TOOL_OPTIONS
    #[arg(long)]
    pub java: bool,
    /// The command and its arguments [default: your shell]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// The running proxy, as far as a child needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// A loopback listener that needs no credentials.
    pub proxy: SocketAddr,
    pub ca_pem: &'a str,
    pub caller: &'a str,
    /// The apps, or nicknames, of the caller's accounts.
    pub accounts: &'a [String],
    /// Variables of our own environment that hold secrets: the child does not get them.
    pub withheld: &'a BTreeSet<&'a str>,
}

/// Runs the command to its end. Returns the code to exit with: the child's own, 128 + n when
/// signal n ended it, 127 when there is no such command and 126 when it may not be executed.
pub async fn run(args: &RunArgs, session: Session<'_>) -> anyhow::Result<u8> {
    let parent: Lookup<'_> = &|name| std::env::var(name).ok();
    refuse_nesting(parent)?;
    if io::stderr().is_terminal() {
        eprintln!("{}", status_line(session));
    }
    let java = if args.java { Java::Yes } else { Java::No };
    behind_proxy(&command_or_shell(&args.command, parent), session, java).await
}

/// Gives `command` its environment and files, and takes the files away when it has ended.
pub async fn behind_proxy(
    command: &[OsString],
    session: Session<'_>,
    java: Java,
) -> anyhow::Result<u8> {
    let parent: Lookup<'_> = &|name| std::env::var(name).ok();
    let files = private_dir()?;
    let proxy = ProxyUrl { address: session.proxy, userinfo: None };
    let written = client_files::write(files.path(), session.ca_pem, &proxy, parent, java)?;
    let mut variables = environment::variables(&proxy, &written, parent);
    variables.push((NESTING_GUARD, proxy.address.to_string()));
    let code = execute(command, &variables, session.withheld).await?;
    files.close().context("the temporary files could not be removed")?;
    Ok(code)
}

/// Set in the child, to its proxy: a second `run` inside would chain to the first by mistake.
const NESTING_GUARD: &str = "COUNTERSIGN_RUN";

fn refuse_nesting(parent: Lookup<'_>) -> anyhow::Result<()> {
    if let Some(outer) = parent(NESTING_GUARD).filter(|value| !value.is_empty()) {
        bail!(
            "already inside `countersign run` (proxy {outer}): leave that shell first, or unset {NESTING_GUARD} to go on regardless"
        );
    }
    Ok(())
}

/// Never empty.
fn command_or_shell(command: &[OsString], parent: Lookup<'_>) -> Vec<OsString> {
    if !command.is_empty() {
        return command.to_vec();
    }
    let (variable, default) =
        if cfg!(windows) { ("COMSPEC", "cmd.exe") } else { ("SHELL", "/bin/sh") };
    let shell = parent(variable).filter(|shell| !shell.is_empty());
    vec![shell.unwrap_or_else(|| default.to_owned()).into()]
}

fn private_dir() -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("countersign-run-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().context("no temporary directory could be made")
}

/// `2 accounts for flow (slack, github) · proxy 127.0.0.1:43121`
fn status_line(session: Session<'_>) -> String {
    let Session { proxy, caller, accounts, .. } = session;
    let count = match accounts.len() {
        0 => return format!("no accounts for {caller} yet · proxy {proxy}"),
        1 => "1 account".to_owned(),
        n => format!("{n} accounts"),
    };
    let mut names = accounts.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if accounts.len() > NAMES_SHOWN {
        names.push_str(", …");
    }
    format!("{count} for {caller} ({names}) · proxy {proxy}")
}

const NAMES_SHOWN: usize = 6;

/// Runs `command` with our streams, our environment but for `withheld`, and `variables`, and passes
/// signals on until it ends. Returns the code to exit with, as [`run`] does.
pub async fn execute(
    command: &[OsString],
    variables: &[(&'static str, String)],
    withheld: &BTreeSet<&str>,
) -> anyhow::Result<u8> {
    // Before the child exists: a signal in between would end us and leave it behind.
    let mut signals = Signals::catch().context("signals could not be caught")?;
    let mut child = match spawn(command, variables, withheld) {
        Ok(child) => child,
        Err(error) => {
            let program = command.first().map(|program| program.to_string_lossy());
            eprintln!("countersign: {}: {error}", program.unwrap_or_default());
            return Ok(spawn_failure_code(&error));
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => return Ok(exit_code(status?)),
            signal = signals.next() => pass_on(&child, signal),
        }
    }
}

fn spawn(
    command: &[OsString],
    variables: &[(&'static str, String)],
    withheld: &BTreeSet<&str>,
) -> io::Result<Child> {
    let [program, args @ ..] = command else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut child = Command::new(program);
    child.args(args);
    for name in OUTRANKING.iter().chain(withheld) {
        child.env_remove(name);
    }
    child.envs(variables.iter().map(|(name, value)| (name, value)));
    child.spawn()
}

/// As shells have it.
fn spawn_failure_code(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    }
}

#[cfg(unix)]
fn pass_on(child: &Child, signal: Signal) {
    use rustix::process::{Pid, kill_process};
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    if comes_from_the_terminal(signal) {
        return;
    }
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "the child could not be signalled");
    }
}

#[cfg(not(unix))]
fn pass_on(_child: &Child, signal: Signal) {
    match signal {}
}

/// Ctrl-C and Ctrl-\ reach every process of the terminal's foreground group, so also the child:
/// once more from us would be a second Ctrl-C, which many programs take as "now, without cleaning
/// up". The size of the window is told the same way.
#[cfg(unix)]
fn comes_from_the_terminal(signal: Signal) -> bool {
    let typed = [Signal::INT, Signal::QUIT, Signal::WINCH].contains(&signal);
    typed && io::stdin().is_terminal()
}

/// Windows tells a console's whole group by itself.
#[cfg(not(unix))]
type Signal = std::convert::Infallible;

/// Signals that would end or inform a plain command. Caught so that we outlive the child.
#[cfg(unix)]
struct Signals(Vec<(Signal, tokio::signal::unix::Signal)>);

#[cfg(not(unix))]
struct Signals;

#[cfg(unix)]
impl Signals {
    fn catch() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let caught = [
            (Signal::INT, SignalKind::interrupt()),
            (Signal::QUIT, SignalKind::quit()),
            (Signal::TERM, SignalKind::terminate()),
            (Signal::HUP, SignalKind::hangup()),
            (Signal::USR1, SignalKind::user_defined1()),
            (Signal::USR2, SignalKind::user_defined2()),
            (Signal::WINCH, SignalKind::window_change()),
        ];
        let streams = caught.into_iter().map(|(name, kind)| Ok((name, signal(kind)?)));
        streams.collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (name, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

#[cfg(not(unix))]
impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        std::future::pending().await
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Whether the process at the other end of a loopback connection is this user's: a listener
/// without credentials must not serve whoever else is on the machine. `local` is our end, `peer`
/// theirs. Call once per accepted connection; a peer that is already gone is nobody's.
#[cfg(target_os = "linux")]
pub fn peer_uid_matches(local: SocketAddr, peer: SocketAddr) -> bool {
    let us = rustix::process::getuid().as_raw();
    // A socket of the v6 family that talks to 127.0.0.1, as Java's do, is in the second table.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        owner(&table, peer, local) == Some(us)
    })
}

/// Other systems have no table that an unprivileged process may read, so every local process is
/// let in: on a machine shared with people you do not trust, use a listener with credentials.
#[cfg(not(target_os = "linux"))]
pub fn peer_uid_matches(_local: SocketAddr, _peer: SocketAddr) -> bool {
    true
}

/// The user whose socket has this `local` and `remote` end, by the kernel's table (proc(5)).
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        let [_, here, there, _, _, _, _, uid] = columns[..] else { return None };
        let ours = same_socket(here, local) && same_socket(there, remote);
        ours.then(|| uid.parse().ok()).flatten()
    })
}

fn same_socket(hexadecimal: &str, address: SocketAddr) -> bool {
    parse_socket(hexadecimal).is_some_and(|(ip, port)| {
        port == address.port() && ip.to_canonical() == address.ip().to_canonical()
    })
}

/// `0100007F:1F90`: words of 32 bits in the machine's own byte order, then the port.
fn parse_socket(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |i: usize| {
        let digits = ip.get(8 * i..8 * i + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (i, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(i)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(accounts: &[String]) -> Session<'_> {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 43121));
        static NOTHING: BTreeSet<&str> = BTreeSet::new();
        Session { proxy, ca_pem: "", caller: "flow", accounts, withheld: &NOTHING }
    }

    #[test]
    fn the_status_line_counts_and_names_accounts() {
        for (accounts, line) in [
            (&[][..], "no accounts for flow yet · proxy 127.0.0.1:43121"),
            (&["slack"], "1 account for flow (slack) · proxy 127.0.0.1:43121"),
            (&["slack", "github"], "2 accounts for flow (slack, github) · proxy 127.0.0.1:43121"),
            (
                &["a", "b", "c", "d", "e", "f", "g"],
                "7 accounts for flow (a, b, c, d, e, f, …) · proxy 127.0.0.1:43121",
            ),
        ] {
            let accounts: Vec<String> = accounts.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(status_line(session(&accounts)), line);
        }
    }

    #[test]
    fn what_follows_the_command_is_the_commands() {
        use clap::{Args as _, FromArgMatches as _};
        for (line, caller, command) in [
            ("run --caller flow -- python -m x --java", Some("flow"), "python -m x --java"),
            ("run python --caller other", None, "python --caller other"),
            ("run --java", None, ""),
        ] {
            let parser = RunArgs::augment_args(clap::Command::new("run"));
            parser.clone().debug_assert();
            let matches = parser.get_matches_from(line.split(' '));
            let args = RunArgs::from_arg_matches(&matches).expect(line);
            let got: Vec<_> = args.command.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!((args.caller.as_deref(), got.join(" ")), (caller, command.to_owned()));
        }
    }

    #[test]
    fn a_run_inside_a_run_is_refused() {
        let error = refuse_nesting(&|_| Some("127.0.0.1:1".to_owned())).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1") && error.contains("unset COUNTERSIGN_RUN"));
        assert!(refuse_nesting(&|_| None).is_ok());
        assert!(refuse_nesting(&|_| Some(String::new())).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn without_a_command_it_is_the_users_shell() {
        for (shell, expected) in [(Some("/bin/zsh"), "/bin/zsh"), (None, "/bin/sh")] {
            let command = command_or_shell(&[], &|_| shell.map(str::to_owned));
            assert_eq!(command, [OsString::from(expected)]);
        }
        let command = command_or_shell(&["ls".into(), "-l".into()], &|_| None);
        assert_eq!(command, ["ls", "-l"].map(OsString::from));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_child_gets_variables_and_signals_but_no_secret_and_gives_its_exit_code() {
        // Cargo sets this one for every test.
        let withheld = BTreeSet::from(["CARGO_PKG_NAME"]);
        let trap = "trap 'exit 42' USR1; kill -USR1 $PPID; while :; do sleep 0.05; done";
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("test \"$A\" = \"it's\"", 0),
            ("test -z \"$CARGO_PKG_NAME\"", 0),
            ("kill -TERM $$", 128 + 15),
            (trap, 42),
        ] {
            let command = ["sh", "-c", script].map(OsString::from);
            let ended = execute(&command, &[("A", "it's".to_owned())], &withheld).await;
            assert_eq!(ended.expect("run"), code, "{script}");
        }
        for (program, code) in [("/no/such/command", 127), ("/", 126)] {
            let ended = execute(&[program.into()], &[], &withheld).await;
            assert_eq!(ended.expect("run"), code, "{program}");
        }
    }

    #[cfg(target_endian = "little")]
    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 2 1
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1001        0 3 1
   3: 0000000000000000FFFF00000100007F:C351 0000000000000000FFFF00000100007F:1F90 01 0:0 00:0 0 1002 0 4
   4: 00000000000000000000000001000000:C352 00000000000000000000000001000000:1F90 01 0:0 00:0 0 1003 0 5
   5: nonsense";

    #[cfg(target_endian = "little")]
    #[test]
    fn the_owner_of_the_peers_end_is_found_in_both_families() {
        for (peer, proxy, uid) in [
            ("127.0.0.1:50000", "127.0.0.1:8080", Some(1000)),
            ("127.0.0.1:50001", "127.0.0.1:8080", Some(1002)),
            ("[::1]:50002", "[::1]:8080", Some(1003)),
            ("127.0.0.1:50003", "127.0.0.1:8080", None),
            ("127.0.0.1:50000", "127.0.0.1:8081", None),
        ] {
            let (peer, proxy) = (peer.parse().expect(peer), proxy.parse().expect(proxy));
            assert_eq!(owner(TABLE, peer, proxy), uid, "{peer}");
        }
    }

    #[test]
    fn our_own_connection_is_ours() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(loopback) else { continue };
            let local = listener.local_addr().expect("bound");
            let client = std::net::TcpStream::connect(local).expect("connected");
            let (_accepted, peer) = listener.accept().expect("accepted");
            assert!(peer_uid_matches(local, peer), "{loopback}");
            drop(client);
        }
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(!peer_uid_matches(nobody, nobody) || !cfg!(target_os = "linux"));
    }
}
