//! What the breakers report: to the log and the metrics at each change, and to the table of pauses.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::pause::Facts;
use crate::domain::ids::{AppId, TemplateId};
use crate::domain::pause::PauseReason;
use crate::metrics::Metrics;

/// One pause of one app that this process came to by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `None`: the whole app.
    pub template_id: Option<TemplateId>,
    pub reason: PauseReason,
    pub facts: Arc<Facts>,
    /// The next probe, where one is due.
    pub until: Option<Timestamp>,
}

/// A change of a template's state that people should hear of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Paused(Arc<Facts>),
    Resumed,
}

/// Reports changes to the log, to the metrics and to the task that writes the table of pauses.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) metrics: Arc<Metrics>,
    /// Something changed since the table was written last.
    pub(super) changed: Arc<Notify>,
}

impl Reporter {
    /// An app is paused, or for another reason than before.
    pub(super) fn app_paused(&self, app_id: &AppId, reason: PauseReason, facts: &Facts) {
        self.metrics.app_paused(app_id, reason.as_str());
        self.changed.notify_one();
        let Facts { errcode, detail, .. } = facts;
        let advice = reason.advice();
        if reason == PauseReason::ByHand {
            tracing::warn!(%app_id, %reason, why = detail, advice, "app paused by an operator; its messages wait, uncharged");
            return;
        }
        let ip = Some(detail.as_str()).filter(|detail| detail.parse::<IpAddr>().is_ok());
        tracing::error!(%app_id, %reason, errcode, errmsg = detail, ip, advice,
            "app paused: {}; its messages wait, uncharged, and resume once this is fixed", reason.meaning());
    }

    /// An app works again.
    pub(super) fn app_resumed(&self, app_id: &AppId, reason: PauseReason) {
        self.metrics.app_resumed(app_id);
        self.changed.notify_one();
        tracing::info!(%app_id, %reason, "app resumed");
    }

    /// A template is paused or works again, by WeChat's word or by somebody's hand.
    pub(super) fn template(
        &self,
        app_id: &AppId,
        template_id: &TemplateId,
        change: &Change,
        reason: PauseReason,
    ) {
        self.changed.notify_one();
        match change {
            Change::Paused(facts) if reason == PauseReason::ByHand => {
                tracing::warn!(%app_id, %template_id, %reason, why = facts.detail,
                    "template paused by an operator; the app's other templates are sent");
            }
            Change::Paused(facts) => {
                let (errcode, errmsg) = (facts.errcode, &facts.detail);
                tracing::error!(%app_id, %template_id, %reason, errcode, errmsg, advice = reason.advice(),
                    "template paused: {}; the app's other templates are sent", reason.meaning());
            }
            Change::Resumed => tracing::info!(%app_id, %template_id, %reason, "template resumed"),
        }
    }
}
