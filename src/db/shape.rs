//! Do the tables have the shape that our statements rely on? Three of them are often older than this program, and made by
//! others. Nothing is converted here: the owner of the tables gets the whole list, and the SQL for it.

mod compare;
mod convert;
mod difference;
pub(in crate::db) mod expected;
mod found;

use deadpool_postgres::GenericClient;

use super::Error;
pub use difference::Difference;

/// All differences, with the migrations up to `applied` in place (0: none). What a later one adds is not missing.
pub(super) async fn differences(client: &impl GenericClient, applied: i32) -> Result<Vec<Difference>, Error> {
    let found = found::read(client).await?;
    let mut differences = Vec::new();
    for table in expected::tables() {
        let there = found.get(table.name);
        let mut of_table = compare::table(table, there, applied);
        let is_looked_into = table.is_shared || table.since <= applied;
        let has_new_id = of_table.iter().any(|one| one.column == "id" && convert::makes_unique_id(&one.sql));
        let mut of_keys = Vec::new();
        for unique in table.unique.iter().filter(|_| is_looked_into) {
            let Some(there) = there.filter(|there| compare::lacks(unique, there)) else { continue };
            // A new number column comes with its index.
            if unique.columns == ["id"] && has_new_id {
                continue;
            }
            let duplicates = found::duplicates(client, table.name, unique).await?;
            of_keys.extend(compare::unique(table, unique, there, duplicates, applied));
        }
        of_table.extend(of_keys);
        differences.extend(of_table);
    }
    Ok(differences)
}

/// One script that converts everything, for the owner of the tables to read and run.
pub fn script(differences: &[Difference]) -> String {
    let mut script = format!(
        "-- Read it first, keep a backup, and stop everything that writes these tables. All of it happens, or nothing does.\n\
         -- A column that is missing is added, and is empty. If yours has another name, rename it instead.\n\
         -- Times without a zone are taken for those of {}: change it where they are not.\n\
         -- In a column `status`, 1 must mean active and 0 off: change it where yours say otherwise.\n\
         BEGIN;\n",
        convert::ZONE
    );
    for difference in differences {
        script.push_str(&format!("\n-- {}\n", difference.to_string().replace('\n', " ")));
        for statement in &difference.sql {
            script.push_str(statement);
            script.push('\n');
        }
    }
    script.push_str("\nCOMMIT;\n");
    script
}

/// Every column of our tables as the migrations create it: table, column, and the type that we rely on; none where no
/// statement uses it. Tests compare it with a migrated database.
pub fn columns() -> impl Iterator<Item = (&'static str, &'static str, Option<&'static str>)> {
    let used = expected::tables().flat_map(|table| {
        table.columns.iter().map(|column| (table.name, column.name, Some(column.kind.as_sql())))
    });
    let unused =
        expected::UNUSED.iter().flat_map(|(table, columns)| columns.iter().map(|name| (*table, *name, None)));
    used.chain(unused)
}
