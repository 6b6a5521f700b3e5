//! Masks the openids of ledger rows and dead letters, unless they are to be shown in full.

use super::output::Masking;
use crate::db::dead_letters::Archived;
use crate::db::ledger::browse::LedgerRow;

pub fn ledger_row(masking: Masking, row: &mut LedgerRow) {
    if !masking.is_off() {
        row.mask();
    }
}

pub fn dead_letter(masking: Masking, archived: &mut Archived) {
    let about = &mut archived.dead_letter.about;
    about.recipient = about.recipient.as_deref().map(|recipient| masking.recipient(recipient));
    about.openid = about.openid.as_deref().map(|openid| masking.openid(openid));
}
