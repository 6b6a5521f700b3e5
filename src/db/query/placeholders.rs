//! Replaces the named placeholders of a statement by numbered ones, while the program is compiled.

/// A column of a batch.
pub(in crate::db) struct Column {
    pub(in crate::db) name: &'static str,
    /// The type of one value, in SQL.
    pub(in crate::db) sql_type: &'static str,
}

/// The names that a statement may use, in the order in which their values are sent.
pub(in crate::db) struct Names {
    /// Sent first, as an array per column.
    pub(in crate::db) batch: Option<(&'static str, &'static [Column])>,
    pub(in crate::db) values: &'static [&'static str],
}

/// Bounds the values of one statement, the batch aside.
const MOST_VALUES: usize = 32;

impl Names {
    /// The length of what [`Self::numbered`] returns.
    pub(in crate::db) const fn numbered_length(&self, sql: &str) -> usize {
        self.write::<0>(sql).length
    }

    /// The statement with `$1`, `$2`, … in place of names. Does not compile where a placeholder has no value, or a value no
    /// placeholder.
    pub(in crate::db) const fn numbered<const LENGTH: usize>(&self, sql: &str) -> [u8; LENGTH] {
        self.write::<LENGTH>(sql).bytes
    }

    const fn write<const LENGTH: usize>(&self, sql: &str) -> Text<LENGTH> {
        let sql = sql.as_bytes();
        let mut text = Text { bytes: [0; LENGTH], length: 0 };
        let (mut is_batch_used, mut is_used) = (self.batch.is_none(), [false; MOST_VALUES]);
        let mut at = 0;
        while at < sql.len() {
            let name = name_at(sql, at);
            at += if name.is_empty() { 1 } else { 1 + name.len() };
            if name.is_empty() {
                text.push(sql[at - 1]);
            } else if let Some((batch, columns)) = self.batch
                && is_same(batch, name)
            {
                text.push_batch(batch, columns);
                is_batch_used = true;
            } else {
                let position = self.position_of(name);
                text.push_placeholder(self.columns() + position + 1);
                is_used[position] = true;
            }
        }
        assert!(is_batch_used, "the batch has no placeholder in the statement");
        let mut position = 0;
        while position < self.values.len() {
            assert!(is_used[position], "a value has no placeholder in the statement");
            position += 1;
        }
        text
    }

    const fn columns(&self) -> usize {
        match self.batch {
            Some((_, columns)) => columns.len(),
            None => 0,
        }
    }

    const fn position_of(&self, name: &[u8]) -> usize {
        let mut position = 0;
        while position < self.values.len() {
            if is_same(self.values[position], name) {
                return position;
            }
            position += 1;
        }
        panic!("a placeholder of the statement has no value")
    }
}

/// The name behind a colon; empty where none begins here. Two colons are a cast, and one behind a word or a number is the
/// middle of a slice.
const fn name_at(sql: &[u8], at: usize) -> &[u8] {
    let numbered = sql[at] == b'$' && at + 1 < sql.len() && sql[at + 1].is_ascii_digit();
    assert!(!numbered, "a numbered placeholder; give it a name");
    let (_, mut name) = sql.split_at(at + 1);
    let before = if at == 0 { b' ' } else { sql[at - 1] };
    let mut length = 0;
    if sql[at] == b':' && !matches!(before, b':' | b'_') && !before.is_ascii_alphanumeric() {
        while length < name.len() && (name[length].is_ascii_lowercase() || name[length] == b'_') {
            length += 1;
        }
    }
    (name, _) = name.split_at(length);
    name
}

/// The length of parts behind each other.
pub(in crate::db) const fn parts_length(parts: &[&str]) -> usize {
    join::<0>(parts).length
}

/// Parts behind each other.
pub(in crate::db) const fn join_parts<const LENGTH: usize>(parts: &[&str]) -> [u8; LENGTH] {
    join::<LENGTH>(parts).bytes
}

const fn join<const LENGTH: usize>(parts: &[&str]) -> Text<LENGTH> {
    let mut text = Text { bytes: [0; LENGTH], length: 0 };
    let mut at = 0;
    while at < parts.len() {
        text.push_str(parts[at]);
        at += 1;
    }
    text
}

/// The text of bytes that were copied from texts.
pub(in crate::db) const fn text_of(bytes: &[u8]) -> &str {
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("the statement is not UTF-8"),
    }
}

const fn is_same(name: &str, other: &[u8]) -> bool {
    let name = name.as_bytes();
    let mut at = 0;
    while at < name.len() && at < other.len() && name[at] == other[at] {
        at += 1;
    }
    at == name.len() && at == other.len()
}

/// A text as it grows. What is longer than the array is only measured.
struct Text<const LENGTH: usize> {
    bytes: [u8; LENGTH],
    length: usize,
}

impl<const LENGTH: usize> Text<LENGTH> {
    const fn push_batch(&mut self, name: &str, columns: &[Column]) {
        let mut at = 0;
        while at < columns.len() {
            self.push_str(if at == 0 { "unnest(" } else { ", " });
            self.push_placeholder(at + 1);
            self.push_str("::");
            self.push_str(columns[at].sql_type);
            self.push_str("[]");
            at += 1;
        }
        self.push_str(") WITH ORDINALITY AS ");
        self.push_str(name);
        self.push_str(" (");
        at = 0;
        while at < columns.len() {
            self.push_str(columns[at].name);
            self.push_str(", ");
            at += 1;
        }
        self.push_str("position)");
    }

    const fn push_placeholder(&mut self, number: usize) {
        self.push(b'$');
        if number >= 10 {
            self.push(b'0' + (number / 10) as u8);
        }
        self.push(b'0' + (number % 10) as u8);
    }

    const fn push_str(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() {
            self.push(text[at]);
            at += 1;
        }
    }

    const fn push(&mut self, byte: u8) {
        if self.length < LENGTH {
            self.bytes[self.length] = byte;
        }
        self.length += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[Column { name: "id", sql_type: "bigint" }, Column { name: "reason", sql_type: "text" }];

    fn numbered(names: &Names, sql: &str) -> String {
        let text = names.write::<1000>(sql);
        String::from_utf8(text.bytes[..text.length].to_vec()).unwrap()
    }

    fn values(values: &'static [&'static str]) -> Names {
        Names { batch: None, values }
    }

    #[test]
    fn names_become_numbers_in_the_order_of_their_values() {
        let sql = "SELECT :b::text, :a, :b, x::int, ':', 'a: b', t.c[0:n]::numeric";
        assert_eq!(
            numbered(&values(&["a", "b"]), sql),
            "SELECT $2::text, $1, $2, x::int, ':', 'a: b', t.c[0:n]::numeric"
        );
    }

    #[test]
    fn a_batch_becomes_a_table_of_its_columns_and_the_position() {
        let names = Names { batch: Some(("i", COLUMNS)), values: &["limit_ms"] };
        assert_eq!(
            numbered(&names, "SELECT i.id, :limit_ms FROM :i WHERE i.reason = ''"),
            "SELECT i.id, $3 FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS i (id, reason, position) \
             WHERE i.reason = ''"
        );
    }

    #[test]
    fn the_length_is_known_beforehand() {
        let names = values(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]);
        let sql = "SELECT :a, :b, :c, :d, :e, :f, :g, :h, :i, :j, :k";
        assert_eq!(names.numbered_length(sql), numbered(&names, sql).len());
        assert!(numbered(&names, sql).ends_with("$9, $10, $11"));
    }

    #[test]
    fn parts_are_joined_as_they_are() {
        let parts = ["SELECT ", "", ":a"];
        assert_eq!(parts_length(&parts), 9);
        assert_eq!(text_of(&join_parts::<9>(&parts)), "SELECT :a");
    }

    #[test]
    #[should_panic(expected = "a placeholder of the statement has no value")]
    fn a_placeholder_needs_a_value() {
        numbered(&values(&["a"]), "SELECT :a, :b");
    }

    #[test]
    #[should_panic(expected = "a value has no placeholder in the statement")]
    fn a_value_needs_a_placeholder() {
        numbered(&values(&["a", "b"]), "SELECT :a");
    }

    #[test]
    #[should_panic(expected = "the batch has no placeholder in the statement")]
    fn a_batch_needs_a_placeholder() {
        numbered(&Names { batch: Some(("i", COLUMNS)), values: &["a"] }, "SELECT :a");
    }

    #[test]
    #[should_panic(expected = "a numbered placeholder; give it a name")]
    fn names_and_numbers_are_not_mixed() {
        numbered(&values(&["a"]), "SELECT :a, $1");
    }
}
