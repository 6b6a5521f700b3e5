//! How a table is written down.

/// A table.
#[derive(Debug)]
pub(in crate::db) struct Table {
    pub(in crate::db) name: &'static str,
    /// The migration that creates it.
    pub(in crate::db) since: i32,
    /// Business systems may have created it before us, and write it.
    pub(in crate::db) is_shared: bool,
    pub(in crate::db) columns: &'static [Column],
    pub(in crate::db) unique: &'static [Unique],
}

/// A column.
#[derive(Debug)]
pub(in crate::db) struct Column {
    pub(in crate::db) name: &'static str,
    pub(in crate::db) kind: Kind,
    pub(in crate::db) need: Need,
    /// The migration that adds it to a table that exists without it; `None`: no migration does.
    pub(in crate::db) added_by: Option<i32>,
}

/// What a column must be able to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Kind {
    /// `text`, or a `varchar` of at least so many characters.
    Text(u32),
    /// Any integer type: we only compare it with 0 and 1.
    Flag,
    Integer,
    Bigint,
    Boolean,
    Timestamptz,
    Date,
    Jsonb,
    Uuid,
    Bytea,
    Numeric,
    Texts,
    Integers,
    Bigints,
}

/// What our inserts, and our reads, need of a column besides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Need {
    /// Our inserts always give a value.
    Given,
    /// Our inserts may give NULL.
    Nullable,
    /// Our inserts leave it out: it must be nullable or have a default.
    Omitted,
    /// Our inserts leave it out and our reads expect a value: not null, with this default.
    Default(&'static str),
    /// The row's number, which we read and the database makes.
    Identity,
}

/// Columns that no two rows may share.
#[derive(Debug)]
pub(in crate::db) struct Unique {
    pub(in crate::db) columns: &'static [&'static str],
    /// The migration that creates the index; `None`: no migration does.
    pub(in crate::db) made_by: Option<i32>,
}

pub(super) const fn given(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, need: Need::Given, added_by: None }
}

pub(super) const fn nullable(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, need: Need::Nullable, added_by: None }
}

pub(super) const fn omitted(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, need: Need::Omitted, added_by: None }
}

pub(super) const fn defaults(name: &'static str, kind: Kind, default: &'static str) -> Column {
    Column { name, kind, need: Need::Default(default), added_by: None }
}

pub(super) const fn identity() -> Column {
    Column { name: "id", kind: Kind::Bigint, need: Need::Identity, added_by: None }
}

pub(super) const fn added_by(migration: i32, column: Column) -> Column {
    Column { added_by: Some(migration), ..column }
}

pub(super) const fn unique(made_by: i32, columns: &'static [&'static str]) -> Unique {
    Unique { columns, made_by: Some(made_by) }
}

/// Nobody but us creates or writes it.
pub(super) const fn ours(
    name: &'static str,
    since: i32,
    columns: &'static [Column],
    unique: &'static [Unique],
) -> Table {
    Table { name, since, is_shared: false, columns, unique }
}

/// Business systems have it too.
pub(super) const fn shared(
    name: &'static str,
    columns: &'static [Column],
    unique: &'static [Unique],
) -> Table {
    Table { name, since: 1, is_shared: true, columns, unique }
}
