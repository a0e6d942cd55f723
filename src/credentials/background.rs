//! What the keeper does without being asked: it refreshes what is due, writes down what was noted and
//! used, and counts.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Slot;
use super::flight::Reason;
use super::keeper::{KEEP_ALIVE, Keeper, Record};
use crate::telemetry::AuditEvent;
use crate::vault::Due;

/// How often the schedule looks for what is due.
const TICK: Duration = Duration::from_millis(500);
/// And while more is due than could be begun.
const BREATH: Duration = Duration::from_millis(20);
/// Taken from the schedule at once.
const BATCH: usize = 100;
/// Flights of the schedule at once; requests are never held up by this.
const MOST_FLIGHTS: usize = 256;
/// Accounts that were used within this time are kept fresh; the others are renewed when they are
/// used, and [kept alive](KEEP_ALIVE).
const WARM: Duration = Duration::from_secs(24 * 60 * 60);
/// Taken into the audit at once.
const NOTES: u32 = 100;
const NOTES_LEASE: Duration = Duration::from_secs(10);
/// Between two looks at how all accounts fare.
const CENSUS: Duration = Duration::from_secs(5);
const FLUSH_USES: Duration = Duration::from_secs(60);

impl Keeper {
    /// Refreshes what is due, in this process and for all of them, until [`Self::close`].
    pub async fn run(self: Arc<Self>) {
        let mut flushed = self.clock.uptime();
        let (mut counted, mut noted) = (None, None);
        let mut pause = TICK;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.closing.cancelled() => return,
            }
            pause = if self.refresh_due().await { BREATH } else { TICK };
            let now = self.clock.uptime();
            if counted.is_none_or(|at| now.saturating_sub(at) >= CENSUS) {
                counted = Some(now);
                self.count().await;
            }
            if noted.is_none_or(|at| now.saturating_sub(at) >= TICK) {
                noted = Some(now);
                if matches!(self.record, Record::Audit { takes_notes: true }) {
                    self.write_notes().await;
                }
            }
            if self.clock.uptime().saturating_sub(flushed) >= FLUSH_USES {
                flushed = self.clock.uptime();
                self.flush_uses().await;
            }
        }
    }

    /// Starts what is due, as far as there is room. True: there is more, so look again soon.
    async fn refresh_due(self: &Arc<Self>) -> bool {
        let under_way = self.flights.lock().len();
        let room = MOST_FLIGHTS.saturating_sub(under_way).min(BATCH);
        if room == 0 {
            return true;
        }
        let now = self.clock.now();
        // Flights that have not claimed their account yet are still among those that are due.
        let limit = under_way + room;
        let due = self.vault.due(now, now - WARM, now - KEEP_ALIVE, limit as u32).await;
        let due = match due {
            Ok(due) => due,
            Err(error) => {
                // The vault says so itself, once; whatever is held goes on being used.
                tracing::debug!(%error, "the schedule could not be read");
                return false;
            }
        };
        let more = due.len() == limit;
        let fresh: Vec<Due> = {
            let flights = self.flights.lock();
            due.into_iter().filter(|due| !flights.contains_key(&due.id)).take(room).collect()
        };
        for due in fresh {
            self.refresh_in_turn(&due);
        }
        more
    }

    /// Takes what commands did with the store into the audit. One node does it; a note that was
    /// written down but not dropped is written twice rather than never.
    async fn write_notes(&self) {
        let Ok(notes) = self.vault.notes(NOTES).await else { return };
        if notes.is_empty() || !self.vault.hold_lease("notes", NOTES_LEASE).await.unwrap_or(false) {
            return;
        }
        let now = self.clock.now();
        for note in &notes {
            self.telemetry.event(&AuditEvent::Administered {
                what: &note.what,
                subject: &note.subject,
                account: note.account.as_ref(),
                detail: &note.detail,
                by: &note.by,
                since: now.duration_since(note.at).unwrap_or_default(),
            });
        }
        if let Err(error) = self.vault.drop_notes(&notes).await {
            tracing::warn!(%error, "notes are in the audit and still in the store");
        }
    }

    async fn count(&self) {
        match self.vault.census().await {
            Ok(census) => self.telemetry.metrics.accounts_are(census),
            Err(error) => tracing::debug!(%error, "accounts could not be counted"),
        }
    }

    async fn flush_uses(&self) {
        let slots: Vec<Arc<Slot>> = {
            let mut slots = self.slots.lock();
            slots.retain(|_, slot| slot.strong_count() > 0);
            slots.values().filter_map(Weak::upgrade).collect()
        };
        let used = slots.iter().filter_map(|slot| {
            let at = slot.as_stored()?.take_used()?;
            Some((slot.id.clone(), at))
        });
        let used: Vec<_> = used.collect();
        if !used.is_empty()
            && let Err(error) = self.vault.touch(&used).await
        {
            tracing::debug!(%error, "last uses could not be written");
        }
    }

    /// Starts nothing more, and waits for what is under way: a token that is spent has an answer.
    pub async fn close(&self, patience: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("a refresh was still under way at the end");
        }
        self.flush_uses().await;
    }

    /// The same for a refresh that nobody waits for. It waits for its turn, so that those which
    /// requests wait for find room at the provider; when a request joins it, it goes at once.
    fn refresh_in_turn(self: &Arc<Self>, due: &Due) {
        let turns = self.turns_of(&due.app);
        self.start(&due.id, due.version.unsigned_abs(), Reason::Scheduled, Some(turns));
    }
}
