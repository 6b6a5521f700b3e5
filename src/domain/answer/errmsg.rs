//! What can be read out of WeChat's `errmsg`. The texts are not a contract: whatever is not found is simply absent.

/// Longest text kept of an answer, in characters. WeChat's are below 200; a proxy's page is not worth more.
pub const MAX_ERRMSG_CHARS: usize = 256;

/// `data` was refused; the text names the field.
pub(super) const BAD_DATA: i64 = 47003;

/// Longest trace id believed; real ones have 26 characters.
const MAX_RID_BYTES: usize = 64;

/// Parts WeChat's text from the trace id at its end, as in `… rid: 5f8e3b1c-1c1b1a19-0a0b0c0d`; older answers say
/// `[ req_id: … ]`. WeChat explains the id for 7 days under `openapi/rid/get` (docs/WECHAT.md#transport). The text becomes one
/// bounded line without control characters, as the ledger keeps it.
pub fn split(errmsg: &str) -> (String, Option<String>) {
    match ["rid:", "req_id:"].into_iter().find_map(|marker| parted_at(errmsg, marker)) {
        Some((text, rid)) => (bounded(text.trim_end_matches([' ', ',', '['])), Some(rid.to_owned())),
        None => (bounded(errmsg.trim()), None),
    }
}

fn parted_at<'a>(errmsg: &'a str, marker: &str) -> Option<(&'a str, &'a str)> {
    let (text, rest) = errmsg.rsplit_once(marker)?;
    let rid = leading(rest.trim_start(), |c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let stands_alone = !text.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    (stands_alone && !rid.is_empty() && rid.len() <= MAX_RID_BYTES).then_some((text, rid))
}

fn bounded(errmsg: &str) -> String {
    errmsg.chars().filter(|c| !c.is_control()).take(MAX_ERRMSG_CHARS).collect()
}

/// The parameter that 47003 objects to, as in `argument invalid! data.thing3.value is empty` (docs/WECHAT.md#what-the-text-of-47003-says).
/// WeChat names only the first bad one, and sometimes cuts the text short after `.value`.
pub fn field_of(errmsg: &str) -> Option<String> {
    errmsg
        .match_indices("data.")
        .find_map(|(at, prefix)| parameter(&errmsg[at + prefix.len()..]))
        .map(str::to_owned)
}

/// `[A-Za-z_]+[0-9]*` before `.value`.
fn parameter(text: &str) -> Option<&str> {
    let (name, _) = text.split_once(".value")?;
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let valid = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    valid.then_some(name)
}

/// Our address as WeChat saw it, from 40164's `invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist`.
pub fn blocked_ip(errmsg: &str) -> Option<String> {
    let (_, rest) = errmsg.split_once("invalid ip ")?;
    let ip = leading(rest, |c| c.is_ascii_hexdigit() || matches!(c, '.' | ':'));
    ip.parse::<std::net::IpAddr>().is_ok().then(|| ip.to_owned())
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    text.split_once(|c| !belongs(c)).map_or(text, |(leading, _)| leading)
}
