//! Does it work? What this process has found out about apps, templates and itself.
//!
//! Every app has a [`Breaker`]: closed while its messages are sent, open while they wait (a pause), probing while one
//! delivery tries. Answers of WeChat open and close it; so do the token refresher, the app's own quota and operators. The
//! [`OutageDetector`](outage_detector::OutageDetector) decides which failures are the app's and which the delivery's.

mod breaker;
mod breakers;
mod notices;
mod outage_detector;
mod pause;
mod pause_report;
mod stall_detector;
mod template_breakers;

pub use breaker::{Answered, Breaker, Pass, Probe, TemplateProbe};
pub use breakers::Breakers;
pub use outage_detector::{Trouble, Verdict};
pub use pause::{Ends, Facts, State};
pub use pause_report::PauseReport;
pub use stall_detector::{InHand, StallDetector, Stalled};
