//! What a replay would do, without doing it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::judge::{Judgement, Terms, View, judge};
use crate::clock;
use crate::db::dead_letters::Archived;
use crate::db::replay::{self, Candidate, Order};
use crate::db::{Database, Error};
use crate::domain::dead_letter::{DeadLetter, Reason};
use crate::domain::replay::Refusal;

/// What would go out, what would be refused and why; by group of dead letters with the same cause.
#[derive(Debug, Default, Serialize)]
pub struct Preview {
    /// Open dead letters that may go out.
    pub going: i64,
    pub refused: BTreeMap<&'static str, i64>,
    pub groups: Vec<Group>,
}

/// Dead letters with the same cause.
#[derive(Debug, Serialize)]
pub struct Group {
    pub group: String,
    pub reason: Reason,
    pub errcode: Option<i64>,
    pub field: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    pub going: i64,
    pub refused: BTreeMap<&'static str, i64>,
}

/// Looks at every dead letter up to the order's cut-off, a page at a time.
pub async fn preview(db: &Database, order: &Order, terms: &Terms) -> Result<Preview, Error> {
    let pauses = &replay::pauses(db).await?;
    let Order { even_expired, re_resolve, .. } = *order;
    let view = View { terms, even_expired, re_resolve, pauses };
    let edited_body = order.edited.as_ref().map(|edited| &edited.body);
    let mut preview = Preview::default();
    let mut after = 0;
    loop {
        let page =
            replay::matching_page(db, &order.filter, order.cut_off, after, terms.max_body_bytes).await?;
        let Some(last) = page.last() else { return Ok(preview) };
        after = last.archived.id;
        for mut candidate in page {
            candidate.edited_body = edited_body.cloned();
            let refusal = refusal(&candidate, &view);
            preview.add(candidate.archived, refusal);
        }
    }
}

fn refusal(candidate: &Candidate, view: &View<'_>) -> Option<Refusal> {
    if let Some(refusal) = Refusal::of_state(candidate.state) {
        return Some(refusal);
    }
    match judge(candidate, view, clock::now()) {
        Judgement::Publish(_) => None,
        // Nothing of this replay is out yet.
        Judgement::IsOut => Some(Refusal::InProgress),
        Judgement::Refuse(refusal) => Some(refusal),
    }
}

impl Preview {
    fn add(&mut self, archived: Archived, refusal: Option<Refusal>) {
        let group = self.group_of(archived);
        match refusal {
            None => {
                group.going += 1;
                self.going += 1;
            }
            Some(refusal) => {
                *group.refused.entry(refusal.as_str()).or_default() += 1;
                *self.refused.entry(refusal.as_str()).or_default() += 1;
            }
        }
    }

    /// There are dozens of groups, not millions: a search is quick enough.
    fn group_of(&mut self, archived: Archived) -> &mut Group {
        let known = self.groups.iter().position(|group| group.group == archived.fingerprint);
        let at = known.unwrap_or_else(|| {
            let DeadLetter { reason, errcode, field, about, .. } = archived.dead_letter;
            self.groups.push(Group {
                group: archived.fingerprint,
                reason,
                errcode,
                field,
                app_id: about.app_id,
                template_id: about.template_id,
                going: 0,
                refused: BTreeMap::new(),
            });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }
}
