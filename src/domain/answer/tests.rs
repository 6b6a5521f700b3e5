use super::*;

/// Taken from docs/WECHAT.md a second time, code by code, so that a class that changes in the table is noticed here.
const EXPECTED: &[(&str, &[i64])] = &[
    ("sent", &[0]),
    ("transient", &[-1]),
    ("token", &[40001, 40014, 42001, 41001]),
    ("content", &[47001, 47002, 44002]),
    ("quota", &[45009]),
    ("throttled", &[45011]),
    (
        "app_fault",
        &[
            40002, 40013, 40125, 40164, 40243, 41002, 41004, 43002, 43003, 48001, 48004, 50002, 50004, 50007,
            61003, 61004, 61007, 89501, 89503, 89506, 89507,
        ],
    ),
];

fn read(errcode: i64, errmsg: &str) -> SendAnswer {
    let (errmsg, rid) = split_errmsg(errmsg);
    SendAnswer::Read { errcode, errmsg, rid, msgid: None }
}

fn http(status: u16) -> SendAnswer {
    SendAnswer::Http { status, retry_after: None }
}

#[test]
fn every_documented_code_has_its_class() {
    for (class, errcodes) in EXPECTED {
        for &errcode in *errcodes {
            assert_eq!(class_of(errcode, &[]).as_str(), *class, "{errcode}");
            assert!(explain(errcode, &[]).is_some(), "{errcode} is not in the table");
        }
    }
    let expected: usize = EXPECTED.iter().map(|(_, errcodes)| errcodes.len()).sum();
    assert_eq!(COMMON_CODES.len(), expected, "a code of the table is not expected by any test");
}

#[test]
fn the_table_can_be_searched() {
    assert!(COMMON_CODES.is_sorted_by(|a, b| a.errcode < b.errcode));
}

#[test]
fn a_kinds_own_meaning_goes_before_the_common_one() {
    const OWN: &[ErrorCode] = &[code(47001, Class::Conflict, "", "")];
    assert_eq!(classify_send(&read(47001, ""), OWN), Class::Conflict);
    assert_eq!(classify_send(&read(47001, ""), &[]), Class::Content);
}

#[test]
fn a_code_that_no_source_lists_is_transient_and_flagged() {
    assert_eq!(class_of(99_999, &[]), Class::Unlisted);
    assert_eq!(class_of(99_999, &[]).as_str(), "transient");
    assert_eq!(class_of(i64::MIN, &[]), Class::Unlisted);
    assert_eq!(class_of(89_502, &[]), Class::AppFault(PauseReason::IpNotAllowed));
}

#[test]
fn without_a_code_the_question_is_whether_the_request_was_acted_on() {
    for status in [429, 500, 503, 302, 400, 401, 403, 404, 405, 408, 413] {
        assert_eq!(classify_send(&http(status), &[]), Class::Transient, "{status}");
    }
    for status in [502, 504, 501, 520, 524, 201, 204] {
        assert_eq!(classify_send(&http(status), &[]), Class::Unknown, "{status}");
    }
    assert_eq!(classify_send(&SendAnswer::NotConnected, &[]), Class::Transient);
    for answer in [SendAnswer::TimedOut, SendAnswer::Broken, SendAnswer::Unreadable] {
        assert_eq!(classify_send(&answer, &[]), Class::Unknown);
    }
}

#[test]
fn each_reason_to_pause_has_its_code() {
    for (errcode, reason) in [
        (40013, "appid_wrong"),
        (40125, "secret_wrong"),
        (40243, "secret_frozen"),
        (40164, "ip_not_allowed"),
        (61004, "ip_not_allowed"),
        (89503, "ip_not_allowed"),
        (48001, "not_authorised"),
        (61003, "not_authorised"),
        (48004, "app_banned"),
        (50002, "app_banned"),
        (43002, "api_misrouted"),
        (45009, "quota"),
        (45011, "throttled"),
    ] {
        assert_eq!(class_of(errcode, &[]).pause_reason().map(PauseReason::as_str), Some(reason), "{errcode}");
    }
    for errcode in [0, -1, 40001, 43101, 43108, 47003, 43107] {
        assert_eq!(class_of(errcode, &[]).pause_reason(), None, "{errcode}");
    }
}

#[test]
fn reasons_to_pause_are_spelt_apart() {
    let words: std::collections::BTreeSet<_> =
        PauseReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), PauseReason::ALL.len());
}

#[test]
fn the_token_endpoints_mean_the_secret_where_a_send_means_the_token() {
    use PauseReason::*;
    for (errcode, fault) in [
        (-1, TokenFault::Transient),
        (40001, TokenFault::App(SecretWrong)),
        (40002, TokenFault::App(ApiMisrouted)),
        (40013, TokenFault::App(AppidWrong)),
        (40125, TokenFault::App(SecretWrong)),
        (40164, TokenFault::App(IpNotAllowed)),
        (40243, TokenFault::App(SecretFrozen)),
        (41002, TokenFault::App(AppidWrong)),
        (41004, TokenFault::App(SecretWrong)),
        (43002, TokenFault::App(ApiMisrouted)),
        (45009, TokenFault::Quota),
        (45011, TokenFault::Throttled),
        (50004, TokenFault::App(AppBanned)),
        (50007, TokenFault::App(AppBanned)),
        (89501, TokenFault::App(IpNotAllowed)),
        (89503, TokenFault::App(IpNotAllowed)),
        (89506, TokenFault::App(IpNotAllowed)),
        (89507, TokenFault::App(IpNotAllowed)),
        (12345, TokenFault::Transient),
    ] {
        assert_eq!(classify_token(errcode), fault, "{errcode}");
    }
}

#[test]
fn the_field_is_found_in_every_shape_seen() {
    for (errmsg, field) in [
        ("argument invalid! data.thing3.value invalid rid: 5f-6a", Some("thing3")),
        ("argument invalid! data.thing3.value is emtpy", Some("thing3")),
        ("argument invalid! data.character_string1.value i rid: 62", Some("character_string1")),
        ("bad data. see data.time2.value is empty", Some("time2")),
        ("argument invalid! data.phrase.value", Some("phrase")),
        ("argument invalid! data..value", None),
        ("argument invalid! data.1thing.value", None),
        ("argument invalid!", None),
    ] {
        assert_eq!(field_of(errmsg).as_deref(), field, "{errmsg}");
    }
}

#[test]
fn the_trace_id_and_the_blocked_address_are_found() {
    for (errmsg, text, rid) in [
        ("ok rid: 5f8e3b1c-1c1b1a19-0a0b0c0d", "ok", Some("5f8e3b1c-1c1b1a19-0a0b0c0d")),
        ("invalid ip 1.2.3.4, rid:5f-3a", "invalid ip 1.2.3.4", Some("5f-3a")),
        ("invalid credential hints: [ req_id: aB_3 ]", "invalid credential hints:", Some("aB_3")),
        ("ok rid: ", "ok rid:", None),
        ("ok", "ok", None),
        ("a grid: 5 by 3", "a grid: 5 by 3", None),
    ] {
        assert_eq!(split_errmsg(errmsg), (text.to_owned(), rid.map(str::to_owned)), "{errmsg}");
    }
    let absurd = format!("x rid: {}", "5".repeat(65));
    assert_eq!(split_errmsg(&absurd).1, None);
    let blocked = "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: 5f";
    assert_eq!(blocked_ip(blocked).unwrap(), "1.2.3.4");
    assert_eq!(blocked_ip("invalid ip 2001:db8::1, not in whitelist").unwrap(), "2001:db8::1");
    assert_eq!(blocked_ip("invalid ip x"), None);
}

#[test]
fn the_ledger_keeps_a_bounded_line() {
    let facts = read(47003, &format!("data.thing1.value\n{} rid: 5f-6a", "x".repeat(300))).facts();
    assert_eq!(facts.errcode, Some(47003));
    assert_eq!(facts.field.as_deref(), Some("thing1"));
    assert_eq!(facts.rid.as_deref(), Some("5f-6a"));
    assert_eq!(facts.errmsg.unwrap().chars().filter(|c| !c.is_control()).count(), MAX_ERRMSG_CHARS);
    assert_eq!(read(43101, "data.thing1.value").facts().field, None);
    assert_eq!(SendAnswer::TimedOut.facts().errmsg.as_deref(), Some("timed out"));
}
