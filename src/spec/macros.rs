//! Records and word lists: written once, they give the type, its decoder and its schema, which therefore cannot drift apart.

/// A map with known keys.
///
/// - `short: key;` lets anything but a map stand for the map that has only that key.
/// - `instead: "…";` is the advice to whoever writes something else than a map.
/// - `check: function;` looks at the fields together, when all of them could be read.
/// - `open: true;` ignores `x-*` keys and `$schema`.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident $(<$parameter:ident>)? {
            $(short: $short:ident;)?
            $(instead: $instead:literal;)?
            $(check: $check:path;)?
            $(open: $open:literal;)?
            $(
                $(#[doc = $field_doc:literal])*
                pub $field:ident $(($key:literal))? : $type:ty,
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name $(<$parameter>)? {
            $(
                $(#[doc = $field_doc])*
                pub $field: $type,
            )*
        }

        impl $(<$parameter: $crate::spec::decode::Decode>)? $crate::spec::decode::Fields for $name $(<$parameter>)? {
            const KEYS: &'static [&'static str] =
                &[$($crate::spec::macros::key_name!($field $($key)?)),*];

            fn decode_fields(
                map: &$crate::spec::tree::Map,
                place: $crate::diagnostic::Span,
                problems: &mut $crate::spec::decode::Problems,
            ) -> Option<Self> {
                $(
                    let $field: Option<$type> =
                        problems.field(map, place, $crate::spec::macros::key_name!($field $($key)?));
                )*
                let record = $name { $($field: $field?,)* };
                $($check(&record, map, problems);)?
                Some(record)
            }

            fn describe(
                object: &mut $crate::spec::decode::ObjectSchema,
                definitions: &mut $crate::spec::schema::Definitions,
            ) {
                $(
                    object.property(
                        $crate::spec::macros::key_name!($field $($key)?),
                        &$crate::spec::decode::documentation(&[$($field_doc),*]),
                        <$type as $crate::spec::decode::Decode>::absent().is_none(),
                        <$type as $crate::spec::decode::Decode>::schema(definitions),
                    );
                )*
            }
        }

        impl $(<$parameter: $crate::spec::decode::Decode>)? $crate::spec::decode::Decode for $name $(<$parameter>)? {
            fn decode(
                node: &std::rc::Rc<$crate::spec::tree::Node>,
                problems: &mut $crate::spec::decode::Problems,
            ) -> Option<Self> {
                let shape = $crate::spec::decode::Shape {
                    short: [$(stringify!($short))?].first().copied(),
                    instead: [$($instead)?].first().copied(),
                    open: [$($open)?].first().copied().unwrap_or(false),
                };
                $crate::spec::decode::decode_record(node, &shape, problems)
            }

            fn schema(definitions: &mut $crate::spec::schema::Definitions) -> serde_json::Value {
                let parameters: &[&str] = &[$(stringify!($parameter))?];
                let name = parameters.is_empty().then_some(stringify!($name));
                let open = [$($open)?].first().copied().unwrap_or(false);
                let documentation = $crate::spec::decode::documentation(&[$($doc),*]);
                definitions.define(name, |definitions| {
                    let object = $crate::spec::decode::object_schema::<Self>(open, definitions);
                    $(
                        let short = object["properties"][stringify!($short)].clone();
                        let object = serde_json::json!({ "anyOf": [short, object] });
                    )?
                    $crate::spec::decode::described(object, &documentation)
                })
            }
        }
    };
}

/// The key of a field: its own name, unless that is a word of Rust.
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// A closed list of words.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $(
                $(#[doc = $variant_doc:literal])*
                $variant:ident = $word:literal,
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(
                $(#[doc = $variant_doc])*
                $variant,
            )*
        }

        impl $name {
            /// Every word, in the order of documents.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word that is written in scenario files.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl $crate::spec::decode::Decode for $name {
            fn decode(
                node: &std::rc::Rc<$crate::spec::tree::Node>,
                problems: &mut $crate::spec::decode::Problems,
            ) -> Option<Self> {
                let words = &[$($word),*];
                $crate::spec::decode::decode_word(node, words, problems)
                    .map(|index| $name::ALL[index])
            }

            fn schema(definitions: &mut $crate::spec::schema::Definitions) -> serde_json::Value {
                definitions.define(Some(stringify!($name)), |_| {
                    let words = [$(($word, $crate::spec::decode::documentation(&[$($variant_doc),*]))),*];
                    $crate::spec::decode::words_schema(
                        &$crate::spec::decode::documentation(&[$($doc),*]),
                        &words,
                    )
                })
            }
        }
    };
}

pub(super) use {key_name, record, words};
