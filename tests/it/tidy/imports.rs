//! Which module may know which, and who may name a third party.

use super::source::{SIMULATOR, Source, daemon, matching, words};

/// Modules of the daemon, lowest first. One may import what stands below it.
const LAYERS: &[Layer] = &[
    Layer { modules: &["domain"], neighbours: true },
    Layer {
        modules: &["clock", "config", "delays", "failpoint", "lifecycle", "metrics", "sealing", "telemetry"],
        neighbours: true,
    },
    // Each knows one third party; if two of them must meet, they meet in a layer above.
    Layer { modules: &["amqp", "db", "wechat"], neighbours: false },
    // What the pipeline asks: may it go now, does it work, with which token.
    Layer { modules: &["admission", "health", "token"], neighbours: false },
    Layer { modules: &["pipeline"], neighbours: true },
    Layer { modules: &["dead_letters"], neighbours: true },
    Layer { modules: &["http"], neighbours: true },
    Layer { modules: &["cli"], neighbours: true },
];

/// Rooms of the simulator, lowest first.
const SIMULATOR_LAYERS: &[Layer] = &[
    Layer { modules: &["clock", "errcode"], neighbours: false },
    Layer { modules: &["traffic"], neighbours: false },
    Layer { modules: &["faults", "templates", "tokens"], neighbours: false },
    Layer { modules: &["world"], neighbours: false },
    Layer { modules: &["serving"], neighbours: false },
    Layer { modules: &["control", "endpoints"], neighbours: false },
    Layer { modules: &["routes"], neighbours: false },
];

struct Layer {
    modules: &'static [&'static str],
    /// May its modules import each other?
    neighbours: bool,
}

/// Third parties, and the one place that names each. Replacing one then means replacing one folder.
const CLIENTS: &[(&str, &str)] = &[
    ("lapin", "src/amqp/"),
    ("async_rs", "src/amqp/"),
    ("tokio_postgres", "src/db/"),
    ("tokio_postgres_rustls", "src/db/"),
    ("deadpool_postgres", "src/db/"),
    ("reqwest", "src/wechat/"),
    ("axum", "src/http/"),
    ("clap", "src/cli/"),
    ("backoff", "src/delays.rs"),
];

pub fn upward_imports(sources: &[Source]) -> Vec<String> {
    let of_simulator = sources.iter().filter(|source| source.path.starts_with(SIMULATOR));
    let findings = [
        upward_imports_in(daemon(sources), "src/", LAYERS),
        upward_imports_in(of_simulator, SIMULATOR, SIMULATOR_LAYERS),
    ];
    findings.concat()
}

fn upward_imports_in<'a>(
    sources: impl Iterator<Item = &'a Source>,
    root: &str,
    layers: &[Layer],
) -> Vec<String> {
    let layer_of = |module: &str| layers.iter().position(|layer| layer.modules.contains(&module));
    let mut findings = Vec::new();
    for source in sources {
        let path = module_path(&source.path[root.len()..]);
        let Some(module) = path.first() else { continue };
        let Some(layer) = layer_of(module) else {
            findings.push(format!("{}: module `{module}` has no layer", source.path));
            continue;
        };
        for (at, used) in imports(&source.code, path.len()) {
            let allowed = match layer_of(&used) {
                Some(below) => {
                    below < layer || used == *module || (below == layer && layers[layer].neighbours)
                }
                None => false,
            };
            if !allowed {
                findings.push(format!(
                    "{}:{}: `{module}` may not know `{used}`",
                    source.path,
                    source.line(at)
                ));
            }
        }
    }
    findings
}

/// `db/ledger/settle.rs` is `db::ledger::settle`; a program's roots are nothing.
fn module_path(path: &str) -> Vec<&str> {
    let inside = path.trim_end_matches(".rs");
    inside.trim_end_matches("/mod").split('/').filter(|part| !matches!(*part, "lib" | "main")).collect()
}

/// The top-level modules that are named from `depth` modules down, by `crate::` or by climbing with `super::`.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        if let Some(tail) = code[at..].strip_prefix("crate::") {
            found.extend(first_names(tail).into_iter().map(|name| (at, name)));
        }
    }
    let climb = "super::".repeat(depth);
    // `super::super::x` climbs twice from its start and once from its middle: only starts count.
    for at in words(code, "super").filter(|&at| !code[..at].ends_with("super::")) {
        if let Some(tail) = code[at..].strip_prefix(&climb) {
            found.extend(first_names(tail).into_iter().map(|name| (at, name)));
        }
    }
    found
}

/// `db::Error` names `db`; `{db::Error, domain}` names both; `*` names everything, which is no module.
fn first_names(tail: &str) -> Vec<String> {
    if !tail.starts_with('{') {
        return vec![first_name(tail)];
    }
    let group = &tail[1..matching(tail, '{', '}').unwrap_or(tail.len()) - 1];
    let mut depth = 0;
    let paths = group.split(move |c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    paths.map(str::trim).filter(|path| !path.is_empty()).map(first_name).collect()
}

fn first_name(path: &str) -> String {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    path[..end.max(1)].to_owned()
}

pub fn strays(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in daemon(sources) {
        for (client, home) in CLIENTS.iter().filter(|(_, home)| !source.path.starts_with(home)) {
            for at in words(&source.code, client).filter(|&at| is_path_to_crate(&source.code, at, client)) {
                findings.push(format!(
                    "{}:{}: `{client}` is named outside {home}",
                    source.path,
                    source.line(at)
                ));
            }
        }
        let is_root = module_path(&source.path["src/".len()..]).is_empty();
        for at in words(&source.code, "wechat_notifier").filter(|_| is_root) {
            let names = first_names(source.code[at..].trim_start_matches("wechat_notifier::"));
            for name in names.iter().filter(|name| *name != "cli") {
                findings.push(format!(
                    "{}:{}: main may name `cli` only, not `{name}`",
                    source.path,
                    source.line(at)
                ));
            }
        }
    }
    findings
}

/// A crate's name, and not a variable's or a field's.
fn is_path_to_crate(code: &str, at: usize, name: &str) -> bool {
    code[at + name.len()..].starts_with("::") || code[..at].ends_with("use ")
}
