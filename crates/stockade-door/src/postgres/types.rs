//! PostgreSQL's types, by their object ids in `pg_type.dat`. A type that is not here gives texts.

use crate::sql::ValueKind;

/// What the values of a type are, and whether they are arrays of such.
pub(super) fn kind(oid: u32) -> (ValueKind, bool) {
    use ValueKind::{Boolean, Bytea, Date, Integer, Json, Number, Text};
    match oid {
        16 => (Boolean, false),
        20 => (Integer, false),
        // int2, int4, oid, float4, float8
        21 | 23 | 26 | 700 | 701 => (Number, false),
        17 => (Bytea, false),
        // json, jsonb
        114 | 3802 => (Json, false),
        // date, timestamp, timestamptz
        1082 | 1114 | 1184 => (Date, false),
        1000 => (Boolean, true),
        1016 => (Integer, true),
        1005 | 1007 | 1028 | 1021 | 1022 => (Number, true),
        1001 => (Bytea, true),
        199 | 3807 => (Json, true),
        1182 | 1115 | 1185 => (Date, true),
        // char, name, text, bpchar, varchar, xml, macaddr, inet, cidr, time, timetz, interval, numeric, uuid
        1002 | 1003 | 1009 | 1014 | 1015 | 143 | 1040 | 1041 | 651 | 1183 | 1270 | 1187 | 1231
        | 2951 => (Text, true),
        _ => (Text, false),
    }
}
