//! *Request builder*: a request with an account, made and sent without code, and its answer.
//!
//! One form holds the request; every button sends it, and says by `do` what is wanted. So
//! everything works without scripts, and nothing that was entered is lost.

mod answer;
mod code;
mod curl;
mod draft;
mod fold;
mod multipart;
mod pick;
mod saved;
mod send;

use std::sync::Arc;

use askama::Template;
use http::Response;

use super::Trouble;
use super::attached::{self, Attached};
use super::shell::{Section, Shell};
use super::visit::Visit;
use crate::catalog::{Catalog, TestRequest};
use crate::config;
use crate::credentials::Slot;
use crate::forward::Body;
use crate::policy::access::{Operation, may};
use crate::vault::{SavedRequest, Shares};
use crate::web::html::monogram;
use answer::{Answer, Refused, Shown};
use draft::{BodyKind, Draft, FileRow, MAX_FILES, METHODS, Row};
use pick::Candidate;
use send::Sent;

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => open(visit).await,
        ([] | [""], true) => take(visit).await,
        (["saved", rest @ ..], _) => saved::route(visit, rest).await,
        _ => Err(Trouble::NotFound),
    }
}

/// What the page is made of, beside the request.
struct Bench<'v> {
    visit: &'v Visit<'v>,
    catalog: Arc<Catalog>,
    /// Those that the member may use, by app and name.
    accounts: Vec<Candidate>,
    /// Words that narrow them.
    find: String,
    saved: Vec<SavedRequest>,
    draft: Draft,
    chosen: Option<Chosen>,
    /// The kept request that is open, by its id.
    open: Option<String>,
    /// As which it is kept.
    name: String,
    error: Option<String>,
    notes: Vec<String>,
    outcome: Option<Outcome>,
    samples: Vec<code::Sample>,
    asks_for_code: bool,
    curl: String,
}

/// The account that is used.
struct Chosen {
    account: Candidate,
    slot: Arc<Slot>,
}

enum Outcome {
    Answer(Answer),
    Refused(Refused),
    TimedOut,
}

#[derive(Template)]
#[template(path = "workspace/requests.html")]
struct Page<'a> {
    shell: Shell<'a>,
    bench: &'a Bench<'a>,
    groups: Vec<(String, Vec<&'a Candidate>)>,
    account: Option<AccountView>,
    may_reconnect: bool,
}

struct AccountView {
    id: String,
    nickname: String,
    /// It stands in the configuration.
    is_declared: bool,
    app: String,
    app_name: String,
    letter: String,
    hue: u8,
    base: String,
    hosts: Vec<String>,
    attached: Vec<Attached>,
    has_test: bool,
}

impl Page<'_> {
    fn methods(&self) -> Vec<&str> {
        let own = self.bench.draft.method.as_str();
        let own = (!own.is_empty() && !METHODS.contains(&own)).then_some(own);
        METHODS.into_iter().chain(own).collect()
    }

    fn kinds(&self) -> &'static [BodyKind] {
        &BodyKind::ALL
    }

    /// More than anybody wants to look through.
    fn are_many(&self) -> bool {
        self.bench.accounts.len() > MANY
    }
}

/// The page for the first time: empty, with an account, or with a request that was kept.
async fn open(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let mut bench = Bench::read(visit, Draft::default()).await?;
    if let Some(id) = visit.query.said("open") {
        let kept = visit.vault().saved_request(&visit.member().id, id).await?;
        let (kept, request) = kept.ok_or(Trouble::NotFound)?;
        bench.draft = serde_json::from_str(request.expose()).unwrap_or_default();
        (bench.open, bench.name) = (Some(kept.id), kept.name);
        bench.choose().await;
        if bench.chosen.is_none() && bench.error.is_none() {
            bench.notes.push(
                "The account that this request was made with is no longer yours to use: choose \
                 another."
                    .to_owned(),
            );
        }
        return Ok(bench.page());
    }
    let (account, app) = (visit.query.text("account"), visit.query.text("app"));
    let wanted = |held: &&Candidate| match (account, app) {
        ("", "") => bench.accounts.len() == 1,
        ("", app) => held.app.as_str() == app,
        (id, _) => held.id == id,
    };
    bench.draft.account =
        bench.accounts.iter().find(wanted).map(|held| held.id.clone()).unwrap_or_default();
    bench.choose().await;
    bench.begin();
    Ok(bench.page())
}

/// The form was sent.
async fn take(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let form = &visit.form;
    let mut bench = Bench::read(visit, Draft::of(form, &visit.uploads)).await?;
    bench.find = form.text("find").chars().take(100).collect();
    bench.open = form.said("open").map(str::to_owned);
    bench.name = form.text("name").chars().take(saved::MAX_NAME_CHARS).collect();
    bench.curl = form.raw("curl").to_owned();
    bench.choose().await;
    match form.text("do") {
        "choose" => bench.begin(),
        "find" => {}
        "test" => bench.start_with_test(),
        "import" => bench.import().await,
        "follow" => bench.follow(form.text("location")),
        "code" => bench.show_code(true),
        "save" => return saved::keep(bench).await,
        "save-new" => {
            bench.open = None;
            return saved::keep(bench).await;
        }
        other => match Rows::named(other) {
            Some(rows) => rows.change(&mut bench.draft),
            None => bench.send().await?,
        },
    }
    Ok(bench.page())
}

/// `add-query`, `drop-header-2`.
struct Rows<'a> {
    kind: &'a str,
    drop: Option<usize>,
}

impl<'a> Rows<'a> {
    fn named(name: &'a str) -> Option<Self> {
        if let Some(kind) = name.strip_prefix("add-") {
            return Some(Self { kind, drop: None });
        }
        let (kind, at) = name.strip_prefix("drop-")?.rsplit_once('-')?;
        Some(Self { kind, drop: Some(at.parse().ok()?) })
    }

    fn change(&self, draft: &mut Draft) {
        let rows = match self.kind {
            "query" => &mut draft.query,
            "header" => &mut draft.headers,
            "part" => &mut draft.parts,
            "file" => return self.change_files(draft),
            _ => &mut draft.form,
        };
        match self.drop {
            None => rows.push(Row::default()),
            Some(at) if at < rows.len() => drop(rows.remove(at)),
            Some(_) => {}
        }
    }

    fn change_files(&self, draft: &mut Draft) {
        match self.drop {
            None if draft.files.len() < MAX_FILES => draft.files.push(FileRow::default()),
            Some(at) if at < draft.files.len() => drop(draft.files.remove(at)),
            _ => {}
        }
    }
}

impl<'v> Bench<'v> {
    async fn read(visit: &'v Visit<'v>, draft: Draft) -> Result<Self, Trouble> {
        let catalog = visit.workspace.keeper.catalog();
        let (vault, member) = (visit.vault(), visit.member());
        Ok(Self {
            visit,
            accounts: pick::candidates(visit, &catalog).await?,
            find: String::new(),
            saved: vault.saved_requests(&member.id).await?,
            catalog,
            draft,
            chosen: None,
            open: None,
            name: String::new(),
            error: None,
            notes: Vec::new(),
            outcome: None,
            samples: Vec::new(),
            asks_for_code: false,
            curl: String::new(),
        })
    }

    /// Takes up the account that the draft names, if the member may use it.
    async fn choose(&mut self) {
        let named = |account: &&Candidate| account.id == self.draft.account;
        let Some(account) = self.accounts.iter().find(named).cloned() else { return };
        match account.slot(&self.visit.workspace.keeper).await {
            Ok(slot) => self.chosen = Some(Chosen { account, slot }),
            Err(error) => self.error = Some(format!("This account cannot be used: {error}.")),
        }
    }

    /// The app's test request is what an empty page begins with.
    fn begin(&mut self) {
        let draft = &self.draft;
        if draft.path.is_empty() && draft.query.is_empty() && draft.headers.is_empty() {
            self.start_with_test();
        }
    }

    fn start_with_test(&mut self) {
        let Some(Chosen { account, slot }) = &self.chosen else { return };
        if let Some((test, url)) = test_of(slot) {
            self.draft = Draft::of_test(&account.id, test, &url, slot.base());
        }
    }

    async fn import(&mut self) {
        let read = match curl::parse(&self.curl) {
            Ok(read) => read,
            Err(mistake) => {
                self.error = Some(mistake.to_string());
                return;
            }
        };
        self.notes = read.notes;
        let reaches = |account: &Candidate| account.reaches(&self.catalog, &read.url);
        let fits = self.chosen.as_ref().is_some_and(|chosen| reaches(&chosen.account));
        if !fits {
            let found = self.accounts.iter().find(|account| reaches(account));
            match found.map(|account| account.id.clone()) {
                Some(id) => {
                    self.draft.account = id;
                    self.choose().await;
                }
                None => self.error = Some(NO_ACCOUNT.to_owned()),
            }
        }
        let mut draft = Draft {
            account: self.draft.account.clone(),
            method: read.method,
            headers: read.headers,
            kind: read.kind,
            form: read.form,
            parts: read.parts,
            files: read.files,
            follow: self.draft.follow,
            ..Draft::default()
        };
        match read.kind {
            BodyKind::Json => draft.json = read.body,
            _ => draft.text = read.body,
        }
        let nowhere = http::Uri::from_static("about:blank");
        let base = self.chosen.as_ref().map_or(&nowhere, |chosen| chosen.slot.base());
        draft.go_to(&read.url, base);
        self.draft = draft;
        self.curl.clear();
    }

    /// Fills in where the last answer led to. Sending it is the member's to decide.
    fn follow(&mut self, location: &str) {
        let Some(Chosen { slot, .. }) = &self.chosen else { return };
        let here = self.draft.ready(slot.base()).map(|ready| ready.url());
        let there = here.ok().and_then(|here| url::Url::parse(&here).ok()?.join(location).ok());
        let Some(there) = there else {
            self.error = Some("The redirect leads to no URL.".to_owned());
            return;
        };
        let account = self.draft.account.clone();
        self.draft = Draft { account, method: "GET".to_owned(), ..Draft::default() };
        let base = slot.base().clone();
        self.draft.go_to(there.as_str(), &base);
        self.notes.push("The redirect's target is filled in. Look at it, and send it.".to_owned());
    }

    fn show_code(&mut self, asked: bool) {
        let Some(Chosen { account, slot }) = &self.chosen else {
            self.error.get_or_insert_with(|| NO_CHOICE.to_owned());
            return;
        };
        match self.draft.ready(slot.base()) {
            Ok(ready) => {
                self.samples = code::samples(&ready, &account.nickname);
                self.asks_for_code = asked;
            }
            Err(error) => self.error = Some(error),
        }
    }

    async fn send(&mut self) -> Result<(), Trouble> {
        let Some(Chosen { account, slot }) = &self.chosen else {
            // Another member's account is told apart from none.
            if !self.draft.account.is_empty() && self.error.is_none() {
                self.visit.account(&self.draft.account, Operation::Bind).await?;
            }
            self.error.get_or_insert_with(|| NO_CHOICE.to_owned());
            return Ok(());
        };
        let ready = match self.draft.ready(slot.base()) {
            Ok(ready) => ready,
            Err(error) => {
                self.error = Some(error);
                return Ok(());
            }
        };
        let follows = self.draft.follow;
        match Box::pin(send::send(self.visit, account, slot.clone(), ready, follows)).await? {
            Sent::Withheld(why) => self.error = Some(why),
            Sent::TimedOut => self.outcome = Some(Outcome::TimedOut),
            Sent::Answered(raw) if raw.ours => {
                self.outcome = Some(Outcome::Refused(Refused::of(&raw)));
            }
            Sent::Answered(raw) => self.outcome = Some(Outcome::Answer(Answer::of(&raw))),
        }
        self.show_code(false);
        self.forget_files();
        Ok(())
    }

    fn page(&self) -> Response<Body> {
        let account = self.chosen.as_ref().map(|chosen| self.view(chosen));
        let page = Page {
            shell: self.visit.shell(Section::Requests, "Request builder"),
            groups: self.groups(),
            may_reconnect: self.chosen.as_ref().is_some_and(|chosen| self.owns(&chosen.account)),
            account,
            bench: self,
        };
        match self.error {
            Some(_) => self.visit.refused(&page),
            None => self.visit.page(&page),
        }
    }

    fn owns(&self, account: &Candidate) -> bool {
        let nobody = Shares::default();
        let stored = account.stored();
        stored.is_some_and(|account| {
            may(nobody.standing(self.visit.member(), account), Operation::Reconnect)
        })
    }

    /// Those that fit the words, and the one that is chosen.
    fn groups(&self) -> Vec<(String, Vec<&Candidate>)> {
        let mut groups: Vec<(String, Vec<&Candidate>)> = Vec::new();
        let shown =
            |account: &&Candidate| account.id == self.draft.account || account.matches(&self.find);
        for account in self.accounts.iter().filter(shown) {
            match groups.last_mut().filter(|(last, _)| *last == account.app_name) {
                Some((_, accounts)) => accounts.push(account),
                None => groups.push((account.app_name.clone(), vec![account])),
            }
        }
        groups
    }

    /// What is sent again has to be chosen again.
    fn forget_files(&mut self) {
        self.draft.files.iter_mut().for_each(|file| file.upload = None);
    }

    fn view(&self, chosen: &Chosen) -> AccountView {
        let Chosen { account, slot } = chosen;
        let auth = slot.auth();
        let (letter, hue) = monogram(&slot.app.name);
        let origins = config::origins(auth, slot.fields()).unwrap_or_default();
        let mut hosts: Vec<String> = origins.iter().map(|origin| origin.host.to_string()).collect();
        hosts.sort();
        hosts.dedup();
        // Some hosts or paths get something else attached.
        let attachments = match self.draft.ready(slot.base()) {
            Ok(ready) => {
                let (host, path) = (&ready.target.host, ready.path.path());
                attached::all(auth.attachments(auth.choice(host, ready.target.port, path)))
            }
            Err(_) => attached::usual(auth),
        };
        AccountView {
            id: account.id.clone(),
            nickname: account.nickname.clone(),
            is_declared: account.stored().is_none(),
            app: slot.app.id.to_string(),
            app_name: slot.app.name.clone(),
            letter,
            hue,
            base: slot.base().to_string().trim_end_matches('/').to_owned(),
            hosts,
            attached: attachments,
            has_test: auth.test.is_some(),
        }
    }
}

/// More accounts than this can be searched.
const MANY: usize = 12;
const NO_CHOICE: &str = "Choose an account first.";
const NO_ACCOUNT: &str = "No account that you may use reaches this host. Connect the app, or have \
                          an account of it shared with you.";

/// The test request of an account's kind, and its URL with the account's values.
fn test_of(slot: &Slot) -> Option<(&TestRequest, String)> {
    let test = slot.auth().test.as_ref()?;
    let value_of = |name: &str| slot.fields().get(name).map(String::as_str);
    let url = test.url.render_with(value_of).ok()?;
    Some((test, url.expose().to_owned()))
}
