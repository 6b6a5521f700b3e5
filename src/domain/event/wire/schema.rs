//! The JSON Schema of an event, generated from [`Wire`] and shipped as `deploy/event.schema.json`.

use std::fs;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Wire;
use crate::domain::event::content::{MAX_KEYS, MAX_VALUE_CHARS};

/// Set to write the schema instead of comparing it.
const UPDATE: &str = "UPDATE_EVENT_SCHEMA";

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum MiniprogramState {
    Developer,
    Trial,
    Formal,
}

#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(
    dead_code,
    non_camel_case_types,
    reason = "only its schema is used; the names are the words on the wire"
)]
pub(super) enum Lang {
    zh_CN,
    en_US,
    zh_HK,
    zh_TW,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum OnUnknown {
    Resend,
    Park,
}

#[derive(JsonSchema)]
#[schemars(inline, extend("format" = "date-time"))]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct Instant(String);

pub(super) fn data(_: &mut SchemaGenerator) -> Schema {
    let scalar = json_schema!({ "type": ["string", "number"], "maxLength": MAX_VALUE_CHARS });
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": MAX_KEYS,
        "propertyNames": { "pattern": "^[A-Za-z_]+[0-9]*$" },
        "additionalProperties": {
            "anyOf": [
                scalar,
                { "type": "object", "properties": { "value": scalar }, "required": ["value"] },
            ],
        },
    })
}

#[test]
fn the_shipped_schema_is_the_types_own() {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Wire<'static>>();
    let generated = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/event.schema.json");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let shipped = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == generated,
        "deploy/event.schema.json differs from the types; update it with\n  {UPDATE}=1 cargo test --lib schema"
    );
}
