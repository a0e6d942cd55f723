//! External users. One exists once a connect token or an account names it.

use http::Response;

use super::failure::{Failure, no_content, ok};
use super::input::Pairs;
use super::principal::{Principal, Tenancy};
use super::scope::Scope;
use super::{Api, present};
use crate::forward::Body;
use crate::vault::{self, Filter, UserFilter};

const DEFAULT_PAGE: u32 = 100;
/// A connect token may make another account while the user is deleted.
const TRIES: usize = 3;

impl Api {
    pub(super) async fn users(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        query: &Pairs,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::UsersRead)?;
        let page = query.page(DEFAULT_PAGE)?;
        let cursor = |text: Option<&str>| {
            let bad = |_| Failure::bad("that cursor is none of a user");
            text.map(str::parse).transpose().map_err(bad)
        };
        let filter = UserFilter {
            project: tenancy.project.clone(),
            environment: tenancy.environment,
            containing: query.one("q")?.map(str::to_owned),
            after: cursor(page.after())?,
            before: cursor(page.before())?,
            limit: page.limit + 1,
        };
        let total = self.vault().count_external_users(&filter).await?;
        let mut found = self.vault().external_users(&filter).await?;
        let surplus = found.len() > page.limit as usize;
        match (surplus, filter.before.is_some()) {
            (true, true) => drop(found.remove(0)),
            (true, false) => drop(found.pop()),
            (false, _) => {}
        }
        let more = surplus || filter.before.is_some();
        let first = found.first().map(|user| user.id.as_str());
        let last = found.last().map(|user| user.id.as_str()).filter(|_| more);
        let data: Vec<_> = found.iter().map(present::user).collect();
        Ok(ok(&present::list(&data, total, first, last)))
    }

    /// With their accounts, each given back to its provider where that is possible.
    pub(super) async fn delete_user(
        &self,
        principal: &Principal,
        tenancy: &Tenancy,
        named: &str,
        query: &str,
    ) -> Result<Response<Body>, Failure> {
        principal.client(Scope::UsersWrite)?;
        if !query.is_empty() {
            // An SDK that does not encode ids sends the part behind `?` here: this would delete
            // another user.
            return Err(Failure::bad("the id is cut off at its \"?\": encode it as %3F"));
        }
        let user = self.user(tenancy, named).await?.ok_or(Failure::NotFound)?;
        let filter = Filter { external_user: Some(user.id.clone()), ..Filter::default() };
        for _ in 0..TRIES {
            for account in self.vault().accounts(&filter).await? {
                self.connector.remove(&account.id).await?;
            }
            match self.vault().delete_external_user(&user.id).await {
                Ok(_) => return Ok(no_content()),
                Err(vault::Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Unavailable)
    }
}
