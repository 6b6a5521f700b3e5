//! The value rules of template parameter types (docs/WECHAT.md#parameter-types).

/// Whether a value fits the type that its key's prefix names. A prefix nobody knows takes anything.
/// `allowed` is the list of an enum key.
pub fn fits(key: &str, value: &str, allowed: Option<&[String]>) -> bool {
    if value.chars().any(char::is_control) {
        return false;
    }
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "thing" => length(value) <= 20,
        "number" => length(value) <= 32 && is_decimal(value),
        "letter" => length(value) <= 32 && value.chars().all(|c| c.is_ascii_alphabetic()),
        "symbol" => length(value) <= 5 && !value.chars().any(char::is_alphanumeric),
        "character_string" => length(value) <= 32 && !value.chars().any(is_chinese),
        "time" => is_range_of(value, is_time),
        "date" => is_range_of(value, is_date),
        "amount" => is_amount(value),
        "phone_number" => length(value) <= 17 && !value.chars().any(char::is_alphabetic),
        "car_number" => is_car_number(value),
        "name" => length(value) <= if value.chars().any(is_chinese) { 10 } else { 20 },
        "phrase" => length(value) <= 5 && value.chars().all(is_chinese),
        "enum_string" => allowed.is_none_or(|allowed| allowed.iter().any(|one| one == value)),
        _ => true,
    }
}

/// The unit of "character" is not documented beyond the basic plane; UTF-16 units are the stricter reading.
fn length(value: &str) -> usize {
    value.encode_utf16().count()
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}')
}

fn is_decimal(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    is_digits(whole) && is_digits(fraction)
}

fn is_digits(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// One currency symbol or none, at most ten digits with decimals, and perhaps 元 at the end.
fn is_amount(value: &str) -> bool {
    let number = value.strip_suffix('元').unwrap_or(value);
    let number = number.strip_prefix(|c: char| !c.is_alphanumeric() && c != '.').unwrap_or(number);
    is_decimal(number) && number.bytes().filter(u8::is_ascii_digit).count() <= 10
}

/// Up to eight characters; only the first and the last may be Chinese.
fn is_car_number(value: &str) -> bool {
    let last = value.chars().count().saturating_sub(1);
    length(value) <= 8
        && value
            .chars()
            .enumerate()
            .all(|(at, c)| c.is_ascii_alphanumeric() || ((at == 0 || at == last) && is_chinese(c)))
}

/// One moment, or two with `~` between.
fn is_range_of(value: &str, is_moment: fn(&str) -> bool) -> bool {
    let (from, to) = value.split_once('~').unwrap_or((value, value));
    is_moment(from.trim()) && is_moment(to.trim())
}

/// A time, perhaps after a day.
fn is_time(value: &str) -> bool {
    match value.rsplit_once(' ') {
        Some((day, clock)) => is_day(day.trim_end()) && is_clock(clock),
        None => is_clock(value),
    }
}

/// A day, perhaps before a time.
fn is_date(value: &str) -> bool {
    match value.split_once(' ') {
        Some((day, clock)) => is_day(day) && is_clock(clock.trim_start()),
        None => is_day(value),
    }
}

/// `HH:MM` or `HH:MM:SS` of a 24-hour clock.
fn is_clock(value: &str) -> bool {
    let parts: Vec<&str> = value.split(':').collect();
    let below = |part: &str, limit: u8| is_digits(part) && part.parse().is_ok_and(|n: u8| n < limit);
    matches!(parts.len(), 2 | 3) && below(parts[0], 24) && parts[1..].iter().all(|part| below(part, 60))
}

/// Year, month and day, or two of them, in Chinese or with `-`, `/` or `.` between.
fn is_day(value: &str) -> bool {
    let bare = value.trim_end_matches(['日', '月']);
    let parts: Vec<&str> = bare.split(['年', '月', '-', '/', '.']).collect();
    matches!(parts.len(), 2 | 3) && parts.iter().all(|part| part.len() <= 4 && is_digits(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_takes_what_the_documentation_shows() {
        let samples = [
            ("thing1", "广州至北京 CZ3101"),
            ("number01", "12.5"),
            ("letter1", "abc"),
            ("symbol1", "!?"),
            ("character_string1", "NO.2026-1"),
            ("time1", "2019年10月1日 15:01"),
            ("time2", "09:00~18:30"),
            ("date1", "2019-12-25 09:42"),
            ("date2", "2018年1月1日"),
            ("date3", "2018.01.01~2018.02.01"),
            ("amount1", "¥100.00"),
            ("amount2", "99.5元"),
            ("phone_number1", "+86-0766-66888866"),
            ("car_number1", "粤A8Z888挂"),
            ("name1", "张三"),
            ("phrase1", "配送中"),
            ("short_thing1", "whatever"),
        ];
        for (key, value) in samples {
            assert!(fits(key, value, None), "{key}: {value}");
        }
    }

    #[test]
    fn each_type_refuses_what_breaks_its_rule() {
        let long_thing = "一".repeat(21);
        let samples = [
            ("thing1", long_thing.as_str()),
            ("thing2", "two\nlines"),
            ("number1", "1.2.3"),
            ("letter1", "a1"),
            ("symbol1", "a!"),
            ("character_string1", "编号1"),
            ("time1", "25:00"),
            ("date1", "tomorrow"),
            ("amount1", "12345678901"),
            ("phone_number1", "call me"),
            ("car_number1", "粤AB港Z888"),
            ("name1", "一二三四五六七八九十一"),
            ("phrase1", "ok"),
        ];
        for (key, value) in samples {
            assert!(!fits(key, value, None), "{key}: {value}");
        }
    }

    #[test]
    fn an_enum_takes_only_what_is_listed() {
        let allowed = ["已支付".to_owned()];
        assert!(fits("enum_string2", "已支付", Some(&allowed)));
        assert!(!fits("enum_string2", "未知", Some(&allowed)));
    }
}
