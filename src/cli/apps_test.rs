//! `countersign apps test`: an app's own test request, sent through the real path.

use std::io::Write;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;

use super::load_or_explain;
use super::probe::{self, Via};
use super::run::peer_uid_matches;
use crate::catalog::TestRequest;
use crate::config::{self, Account, Caller, Config};
use crate::host::Authority;
use crate::ids::CallerId;
use crate::policy::{Binding, CallerPolicy, Effect, Kept, Mode, Rule};
use crate::serve::{self, Options, OwnListener, Sink, Source};

#[derive(clap::Args)]
pub struct Args {
    /// The app
    app: String,
    /// The account to use; may be left out when the app has one only
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

pub async fn run(args: &Args, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let mut config = load_or_explain(source)?.config;
    let account = account_of(&config, args)?.clone();
    let app = config.catalog.app(&args.app).context("no such app")?.clone();
    let auth = app.auth(&account.auth).context("the account's way to authenticate is gone")?;
    let test = auth.test.as_ref().with_context(|| format!("{} has no test request", args.app))?;
    let caller: CallerId = "apps-test".parse()?;
    config.callers = vec![only_caller(&caller, &account, &config)?];
    let own = OwnListener { caller, admits: peer_uid_matches };
    let options = Options {
        sink: Sink::Memory(std::sync::Arc::default()),
        own: Some(own),
        ..Options::default()
    };
    let running = serve::bind(config, options).await?;
    let (authority, request) = request_of(test, &account)?;
    writeln!(out, "{} {authority}{}", request.method(), request.uri())?;
    let via = Via { proxy: running.proxy[0], authorization: None, ca_pem: running.ca.pem() };
    let answered = probe::send(&via, &authority, request).await;
    let audit = running.audit_file();
    running.drain().await;
    if let Some(audit) = audit {
        let _ = std::fs::remove_file(audit.with_extension("head"));
        let _ = std::fs::remove_file(audit);
    }
    judge(test, &answered?, out)
}

fn account_of<'a>(config: &'a Config, args: &Args) -> anyhow::Result<&'a Account> {
    let fits = |account: &&Account| {
        account.app.as_str() == args.app
            && args.account.as_ref().is_none_or(|name| name == account.name.as_str())
    };
    let found: Vec<&Account> = config.accounts.iter().filter(fits).collect();
    match found[..] {
        [only] => Ok(only),
        [] => bail!(
            "there is no such account of {}; add [accounts.<name>] with app = \"{0}\"",
            args.app
        ),
        _ => {
            let names: Vec<&str> = found.iter().map(|account| account.name.as_str()).collect();
            bail!("which account? --account takes one of: {}", names.join(", "))
        }
    }
}

/// A caller that exists for this one request and may use this one account for anything.
fn only_caller(id: &CallerId, account: &Account, config: &Config) -> anyhow::Result<Caller> {
    let origins = account.origins(&config.catalog);
    let hosts = origins.into_iter().map(|origin| (origin.host, origin.port)).collect();
    let auth = config.catalog.app(account.app.as_str()).and_then(|app| app.auth(&account.auth));
    let binding = Binding {
        account: account.name.clone(),
        id: account.id.clone(),
        app: account.app.clone(),
        hosts,
        open: auth.map(config::open_hosts).unwrap_or_default(),
        paths: Vec::new(),
        default: true,
    };
    let rule = Rule {
        name: "apps test".into(),
        effect: Effect::Allow,
        app: Some(account.app.clone()),
        account: None,
        host: None,
        methods: Vec::new(),
        paths: Vec::new(),
    };
    let policy = CallerPolicy {
        caller: id.clone(),
        mode: Mode::Enforce,
        bindings: vec![binding],
        lapsed: Vec::new(),
        rules: vec![rule].into(),
        kept: Kept::InFile,
    };
    Ok(Caller {
        id: id.clone(),
        tokens: Vec::new(),
        certificate: None,
        expires_at: None,
        policy,
        rate: None,
        max_concurrent: None,
    })
}

fn request_of(
    test: &TestRequest,
    account: &Account,
) -> anyhow::Result<(Authority, Request<Full<Bytes>>)> {
    let url = test.url.render_with(|name| account.fields.get(name).map(String::as_str))?;
    let url: Uri = url.expose().parse().context("the test URL is not a URL")?;
    let authority = url.authority().context("the test URL has no host")?;
    let authority = Authority::parse(authority.as_str(), 443)?;
    let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::builder()
        .method(test.method.clone())
        .uri(target)
        .header("host", authority.host.to_string())
        .header("user-agent", concat!("countersign/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &test.headers {
        request = request.header(name, value);
    }
    let body = match &test.body {
        None => Bytes::new(),
        Some(serde_json::Value::String(text)) => Bytes::from(text.clone()),
        Some(json) => Bytes::from(json.to_string()),
    };
    Ok((authority, request.body(Full::new(body))?))
}

fn judge(
    test: &TestRequest,
    response: &Response<Bytes>,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let made_by = response.headers().get("x-countersign-source").and_then(|v| v.to_str().ok());
    writeln!(out, "{} from {}", response.status(), made_by.unwrap_or("?"))?;
    let said = String::from_utf8_lossy(response.body());
    match test.expect.met(response.status().as_u16(), response.body()) {
        Ok(()) if made_by == Some("upstream") => {
            writeln!(out, "ok: the account works")?;
            Ok(0)
        }
        Ok(()) => {
            writeln!(out, "failed: {}", said.chars().take(2000).collect::<String>())?;
            Ok(1)
        }
        Err(why) => {
            let said: String =
                said.chars().filter(|c| !c.is_control() || *c == '\n').take(2000).collect();
            writeln!(out, "failed: {why}\n{said}")?;
            Ok(1)
        }
    }
}
