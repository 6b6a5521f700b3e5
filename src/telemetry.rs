//! Logs: text on a terminal, JSON otherwise, always to stderr. In texts from other systems everything that could control a
//! terminal is escaped: JSON logs are read on terminals too.

use std::fmt::{self, Debug};
use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::domain::visible::{visible, visible_json};

/// Crates whose logs at `info` and below are about themselves. Name one in `log.level` to see them.
const QUIET: [&str; 5] = ["hyper", "hyper_util", "reqwest", "rustls", "tokio_postgres"];
/// lapin logs returned messages with their bodies, and every closed channel as an error. `amqp` logs what matters of it.
const SILENT: &str = "lapin=off,";
/// A panic's message may contain a whole value; this much is enough to see what happened.
const MAX_PANIC_CHARS: usize = 300;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`log.level` must be a level or a filter such as \"info,wechat_notifier=debug\": {0}")]
    Level(#[from] ParseError),
    #[error("logging was set up before: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging, and logs panics as errors.
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
    // The configured part comes last: of two rules for one crate the later wins.
    let quiet: String = QUIET.iter().map(|name| format!("{name}=warn,")).collect();
    EnvFilter::builder().parse(format!("{SILENT}{quiet}{level}"))
}

fn dispatch<W>(json: bool, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    if json {
        // Fields beside the message, not below it: log stores index one level.
        let lines = lines.json().flatten_event(true).with_span_list(false);
        lines.with_writer(VisibleJson(writer)).finish().into()
    } else {
        let lines = lines.fmt_fields(debug_fn(write_field).delimited(" "));
        lines.with_ansi(std::io::stderr().is_terminal()).with_writer(writer).finish().into()
    }
}

/// JSON lines on their way out, each written at once and whole.
struct VisibleJson<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for VisibleJson<W> {
    type Writer = VisibleJson<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        VisibleJson(self.0.make_writer())
    }
}

impl<W: Write> Write for VisibleJson<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match str::from_utf8(bytes) {
            Ok(json) => self.0.write_all(visible_json(json).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// `name=value`, and the message without its name, as the default has it, but for the value's spelling.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = visible(&value);
    match field.name() {
        "message" => write!(writer, "{value}"),
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        name => write!(writer, "{name}={value}"),
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message: String = message_of(panic).chars().take(MAX_PANIC_CHARS).collect();
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    error!(location, panic = message, "panicked: this is a bug, please report it");
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

    /// What `speak` logs under this filter, as it is written.
    fn written(json: bool, level: &str, speak: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let dispatch = dispatch(json, filter(level).unwrap(), move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, speak);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// The same as JSON lines.
    fn logged(level: &str, speak: impl FnOnce()) -> Vec<serde_json::Value> {
        written(true, level, speak).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn nothing_in_a_line_can_act_on_a_terminal() {
        let odd = "\u{1b}[2J\r\n\u{9b}1m\u{202e}\u{7}";
        let speak = || {
            tracing::info!(event_id = odd, shown = %odd, known = ?odd, "taken in {odd}");
            let _span = tracing::info_span!("span", inside = %odd).entered();
            tracing::info!("in a span");
        };
        let text = written(false, "info", speak);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(text.contains(r"taken in \u{1b}[2J\r\n\u{9b}1m\u{202e}\u{7}"), "{text:?}");
        let json = written(true, "info", speak);
        for line in [&text, &json] {
            assert!(!line.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{line:?}");
        }
        assert_eq!(logged("info", speak)[0]["event_id"], odd, "JSON says the same");
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
