//! Logs: text for a person at a terminal, JSON for everything else, always to stderr.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Crates that tell their own story at `info` and below, which is not ours. Name one in `log.level` to hear it.
const QUIET: [&str; 5] = ["hyper", "hyper_util", "reqwest", "rustls", "tokio_postgres"];
/// lapin logs messages that come back to it whole, bodies and all, and every closed channel as an error. What matters of
/// its doings is told by `amqp` in our own words.
const SILENT: &str = "lapin=off,";
/// A panic's message may hold a whole value; this much tells what happened.
const MAX_PANIC_CHARS: usize = 300;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`log.level` must be a level or a filter such as \"info,wechat_notifier=debug\": {0}")]
    Level(#[from] ParseError),
    #[error("logging was set up before: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging, and has panics logged as errors.
///
/// # Errors
/// When the filter cannot be understood, or when logging was started before.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    dispatch(json, filter(&log.level)?, std::io::stderr).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    let wanted = EnvFilter::builder().parse(level)?;
    if wanted.max_level_hint().is_some_and(|most| most <= LevelFilter::WARN) {
        return EnvFilter::builder().parse(format!("{SILENT}{level}"));
    }
    // The wanted part comes last: of two rules for one crate the later counts.
    let quiet: String = QUIET.iter().map(|name| format!("{name}=warn,")).collect();
    EnvFilter::builder().parse(format!("{SILENT}{quiet}{level}"))
}

fn dispatch<W>(json: bool, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    if json {
        // Fields beside the message, not below it: log stores index one level.
        lines.json().flatten_event(true).with_span_list(false).finish().into()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).finish().into()
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message: String = message_of(panic).chars().take(MAX_PANIC_CHARS).collect();
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    error!(location, panic = message, "panicked: a fault of this program, please report it");
}

/// `panic!` with a literal carries the one, with arguments the other.
fn message_of<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let formatted = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(formatted).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Where a test's log lines go.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `speak` logs under this filter, as JSON lines.
    fn logged(level: &str, speak: impl FnOnce()) -> Vec<serde_json::Value> {
        let page = Page::default();
        let writer = page.clone();
        let dispatch = dispatch(true, filter(level).unwrap(), move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, speak);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_its_fields_beside_the_message() {
        let lines = logged("info", || tracing::info!(event_id = "pay-1", "planned"));
        assert_eq!((&lines[0]["message"], &lines[0]["event_id"]), (&"planned".into(), &"pay-1".into()));
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn the_chatter_of_clients_is_left_out_unless_asked_for() {
        let chatter = || tracing::info!(target: "reqwest::connect", "connected");
        assert_eq!(logged("debug", chatter).len(), 0);
        assert_eq!(logged("debug,reqwest=info", chatter).len(), 1);
        assert_eq!(logged("debug", || tracing::warn!(target: "reqwest::connect", "odd")).len(), 1);
        assert_eq!(logged("error", || tracing::warn!(target: "reqwest::connect", "odd")).len(), 0);
    }

    #[test]
    fn what_may_hold_a_message_body_is_silent_at_any_level() {
        let returned = || tracing::error!(target: "lapin::returned_messages", "with its body");
        assert_eq!(logged("debug", returned).len(), 0);
        assert_eq!(logged("warn", returned).len(), 0);
    }

    #[test]
    fn a_filter_that_means_nothing_is_refused() {
        assert!(filter("wechat_notifier=loud").is_err());
    }
}
