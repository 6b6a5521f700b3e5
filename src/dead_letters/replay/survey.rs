//! What a replay would do, without doing it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::judged::{Judged, Terms, View, judged};
use crate::clock;
use crate::db::replay::{self, Candidate, Order};
use crate::db::{Database, Error};
use crate::domain::replay::Refusal;

/// What would go out, what would be refused and why; by group of dead letters of the same trouble.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// Open dead letters that may go out.
    pub going: i64,
    pub refused: BTreeMap<&'static str, i64>,
    pub groups: Vec<Group>,
}

/// Dead letters of the same trouble.
#[derive(Debug, Serialize)]
pub struct Group {
    pub group: String,
    pub reason: String,
    pub errcode: Option<i64>,
    pub field: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    pub going: i64,
    pub refused: BTreeMap<&'static str, i64>,
}

/// Looks at every dead letter up to the order's cut-off, a page at a time.
pub async fn survey(db: &Database, order: &Order, terms: &Terms) -> Result<Survey, Error> {
    let pauses = &replay::pauses(db).await?;
    let Order { even_expired, re_resolve, .. } = *order;
    let view = View { terms, even_expired, re_resolve, pauses };
    let mended = order.mended.as_ref().map(|mended| &mended.body);
    let mut survey = Survey::default();
    let mut after = 0;
    loop {
        let page = replay::survey(db, &order.filter, order.cut_off, after, terms.max_body_bytes).await?;
        let Some(last) = page.last() else { return Ok(survey) };
        after = last.dead_letter;
        for mut dead_letter in page {
            dead_letter.mended = mended.cloned();
            let refusal = refusal(&dead_letter, &view);
            survey.add(dead_letter, refusal);
        }
    }
}

fn refusal(dead_letter: &Candidate, view: &View<'_>) -> Option<Refusal> {
    if let Some(refusal) = Refusal::of_state(dead_letter.dead_letter_state) {
        return Some(refusal);
    }
    match judged(dead_letter, view, clock::now()) {
        Judged::Publish(_) => None,
        // Nothing of this replay is out yet.
        Judged::IsOut => Some(Refusal::InProgress),
        Judged::Refuse(refusal) => Some(refusal),
    }
}

impl Survey {
    fn add(&mut self, dead_letter: Candidate, refusal: Option<Refusal>) {
        let group = self.group_of(dead_letter);
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
    fn group_of(&mut self, dead_letter: Candidate) -> &mut Group {
        let known = self.groups.iter().position(|group| group.group == dead_letter.fingerprint);
        let at = known.unwrap_or_else(|| {
            self.groups.push(Group {
                group: dead_letter.fingerprint,
                reason: dead_letter.reason,
                errcode: dead_letter.errcode,
                field: dead_letter.field,
                app_id: dead_letter.app_id,
                template_id: dead_letter.template_id,
                going: 0,
                refused: BTreeMap::new(),
            });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }
}
