//! What the manual shows works as it stands there: the examples are taken from the pages themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{APP, EventBody, World, event};

const README: &str = include_str!("../../README.md");
const SIMULATOR: &str = include_str!("../../docs/SIMULATOR.md");
const CONSENT: &str = include_str!("../../docs/CONSENT.md");

/// The blocks of a page in this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The commands of a page's shell blocks, a line each, without what is a comment.
fn commands(page: &str) -> Vec<String> {
    let joined = blocks(page, "sh").join("\n").replace("\\\n", " ");
    let code = joined.lines().map(|line| line.split(" #").next().unwrap().trim());
    code.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_event_of_the_readme_goes_out_after_the_steps_of_the_readme() {
    let world = World::new().await;
    world.sql("DELETE FROM t_wechat_app").await;
    let folder = std::env::temp_dir().join(format!("wn-readme-{}", world.name));
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name).display().to_string();
        std::fs::write(&path, text).unwrap();
        path
    };
    let (secret, published) = (file("shop.secret", "secret"), file("event.json", blocks(README, "json")[0]));

    let mut steps = 0;
    for command in commands(README) {
        let Some(arguments) = command.strip_prefix("wechat-notifier ") else { continue };
        if ["app ", "rule ", "user "].iter().any(|step| arguments.starts_with(step)) {
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            world
                .cli(
                    &arguments
                        .iter()
                        .map(|it| if *it == "shop.secret" { &secret } else { *it })
                        .collect::<Vec<_>>(),
                )
                .await;
            steps += 1;
        }
    }
    assert_eq!(steps, 3, "the README has other steps now");
    let daemon = world.daemon().await;
    world.cli(&["publish", &published]).await;

    world.ends_when("sent", 1).await;
    world.ends_when("skipped:not_bound", 1).await;
    world.finish(daemon).await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn each_example_of_the_simulators_page_is_understood() {
    let world = World::new().await;
    let scenario: Value = toml::from_str(blocks(SIMULATOR, "toml")[0]).unwrap();
    world.wechat.tell("reset", scenario).await;

    let mut tried = BTreeSet::new();
    for command in commands(SIMULATOR) {
        let (path, sent) = request(&command);
        let answer = sent.send_to(&format!("{}{path}", world.wechat.base)).await;
        assert!(answer.is_ok(), "{command}: {answer:?}");
        tried.insert(path.split('?').next().unwrap().to_owned());
    }
    assert_eq!(tried.len(), 11, "{tried:?}");
}

#[test]
fn the_simulators_page_names_every_route() {
    let routes = include_str!("../../src/bin/wechat-simulator/routes.rs");
    let paths: Vec<&str> =
        routes.split('"').filter(|text| text.starts_with('/') && !text.starts_with("//")).collect();
    assert!(paths.len() > 15, "{paths:?}");
    for path in paths {
        assert!(SIMULATOR.contains(path), "docs/SIMULATOR.md does not name {path}");
    }
}

enum Sent {
    Get,
    Delete,
    Post(String),
}

impl Sent {
    async fn send_to(self, url: &str) -> Result<(), String> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = match self {
            Self::Get => http.get(url),
            Self::Delete => http.delete(url),
            Self::Post(body) => http.post(url).body(body),
        };
        let answer = request.send().await.unwrap();
        if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap()) }
    }
}

/// What a command line of curl asks for: the path, and how.
fn request(command: &str) -> (String, Sent) {
    let rest = command.strip_prefix("curl ").unwrap_or_else(|| panic!("not curl: {command}"));
    let (options, url) = rest.rsplit_once(' ').unwrap_or(("", rest));
    let path = url.trim_matches('\'').strip_prefix("http://127.0.0.1:7100").unwrap().to_owned();
    let sent = match options.split_once(' ') {
        None => Sent::Get,
        Some(("-X", "POST")) => Sent::Post(String::new()),
        Some(("-X", "DELETE")) => Sent::Delete,
        Some(("-d", body)) => Sent::Post(body.trim_matches('\'').to_owned()),
        Some(_) => panic!("not understood: {command}"),
    };
    (path, sent)
}

#[tokio::test]
async fn the_records_of_the_page_on_consent_mean_what_it_says() {
    let world = World::new().await;
    let mut record: Value = serde_json::from_str(blocks(CONSENT, "json")[0]).unwrap();
    let templates: Vec<String> = record.as_object().unwrap().keys().cloned().collect();
    let openid = "o6_bmjrPTlm6_2sgVt7hMZOPfL2M";
    let insert = "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template) VALUES ($1, $2, 'zhangsan', $3)";
    world.db.execute(insert, &[&APP, &openid, &record]).await.unwrap();
    let daemon = world.daemon().await;
    for template in &templates {
        world.publish(to_zhangsan(template)).await;
    }
    world.all_ended(3).await;

    for row in world.ledger().await {
        let template = row.event_id.strip_prefix("about-").unwrap();
        let refused = record[template]["status"] == "reject";
        assert_eq!(row.end(), if refused { "skipped:rejected" } else { "sent" }, "{template}");
        if record[template]["remaining"] == 2 && !refused {
            record[template]["remaining"] = json!(1);
        }
    }
    assert_eq!(records_of(&world, openid).await, record, "only the counted send is used");

    world.sql(blocks(CONSENT, "sql")[0]).await;
    let now = records_of(&world, openid).await;
    let written = now.as_object().unwrap().iter().filter(|(template, it)| **it != record[*template]);
    assert_eq!(written.count(), 1, "the statement of the page writes one record: {now}");
    world.finish(daemon).await;
}

fn to_zhangsan(template: &str) -> EventBody {
    event(&format!("about-{template}")).with("template_id", template).to(&["zhangsan"])
}

async fn records_of(world: &World, openid: &str) -> Value {
    let question = "SELECT subscribe_template FROM t_wechat_user WHERE openid = $1";
    world.db.query_one(question, &[&openid]).await.unwrap().get(0)
}

/// Comments cite pages as `docs/WECHAT.md#transport`, pages link to each other as `(CONSENT.md)` or `(#replay)`.
#[test]
fn every_page_and_heading_that_is_cited_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "benches", "deploy", "docs"].map(|folder| files(&root.join(folder)));
    let mut broken = Vec::new();
    for path in folders.into_iter().flatten().chain([root.join("README.md")]) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        for (page, heading) in citations(&name, &text) {
            let Ok(cited) = std::fs::read_to_string(root.join(&page)) else {
                broken.push(format!("{name} cites {page}, which does not exist"));
                continue;
            };
            if !heading.is_empty() && !anchors(&cited).contains(&heading) {
                broken.push(format!("{name} cites #{heading}, which {page} does not have"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The pages that a file cites, from the repository's root, each with a heading or none.
fn citations(name: &str, text: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_alphanumeric() || "-_/.#".contains(c);
    let of = |cited: &str| {
        let (page, heading) = cited.split_once('#').unwrap_or((cited, ""));
        (page.to_owned(), heading.trim_end_matches('.').to_owned())
    };
    if !name.ends_with(".md") {
        let cited =
            text.match_indices("docs/").map(|(at, _)| text[at..].split(|c| !is_name(c)).next().unwrap());
        // Names of one letter are examples of tests; a heading that ends in a hyphen is put together by code.
        let is_whole = |(page, heading): &(String, String)| {
            page.ends_with(".md") && page.len() > "docs/X.md".len() && !heading.ends_with('-')
        };
        return cited.map(of).filter(is_whole).collect();
    }
    let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let folder = if name.starts_with("docs/") { "docs/" } else { "" };
    let inside = links.filter(|link| !link.contains(':') && (link.contains(".md") || link.starts_with('#')));
    inside
        .map(of)
        .map(|(page, heading)| match page.strip_prefix("../") {
            _ if page.is_empty() => (name.to_owned(), heading),
            Some(above) => (above.to_owned(), heading),
            None => (format!("{folder}{page}"), heading),
        })
        .collect()
}

/// The headings of a page as links name them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|text| text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>())
        .map(|text| text.replace(' ', "-"))
        .collect()
}
