//! How a metric is defined: one line in the struct, whose doc comment is the help text.

use prometheus::core::Collector;
use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Writes a struct of metrics and the constructor that registers each of them in a registry of its own.
///
/// A line reads `field: Type = make("name", arguments…)`; `make` is a function below, and the field's doc comment becomes
/// the help text, so the two cannot drift apart. What follows `beside` is not a metric but state of the methods.
macro_rules! metrics {
    (
        $(#[$meta:meta])*
        pub struct $struct:ident {
            $( $(#[doc = $help:literal])+ $vis:vis $field:ident: $type:ty = $make:ident($name:literal $(, $arg:expr)*), )+
        }
        beside {
            $( $(#[doc = $doc:literal])+ $state:ident: $state_type:ty = $init:expr, )+
        }
    ) => {
        $(#[$meta])*
        pub struct $struct {
            registry: ::prometheus::Registry,
            $( $(#[doc = $help])+ $vis $field: $type, )+
            $( $(#[doc = $doc])+ $state: $state_type, )+
        }

        impl $struct {
            fn register() -> Self {
                let registry = ::prometheus::Registry::new();
                $( let $field = $crate::metrics::define::$make(&registry, $name, concat!($($help),+) $(, $arg)*); )+
                Self { registry, $($field,)+ $($state: $init,)+ }
            }
        }
    };
}
pub(super) use metrics;

/// A count without labels.
pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::with_opts(opts(name, help)))
}

/// A count with labels.
pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(opts(name, help), labels))
}

/// A level without labels.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::with_opts(opts(name, help)))
}

/// A count in fractions, without labels.
pub(super) fn seconds(registry: &Registry, name: &str, help: &str) -> Counter {
    registered(registry, Counter::with_opts(opts(name, help)))
}

/// A level with labels.
pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(opts(name, help), labels))
}

/// A distribution without labels.
pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    registered(registry, Histogram::with_opts(opts))
}

/// A distribution with labels.
pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> HistogramVec {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(opts, labels))
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help.trim())
}

/// Names, labels and buckets are literals of this crate: a mistake fails in the first test.
fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("a metric's name, labels and buckets are well formed");
    registry.register(Box::new(metric.clone())).expect("no two metrics share a name");
    metric
}
