//! triple_buffer, between threads: `write`, and a copy of what `read` lends.

use triple_buffer::{Input, Output};

use crate::ends::{Board, Get, Put, WORDS};
use crate::job::{Link, Result};

pub(crate) struct Triple;

type Value = [u64; WORDS];

impl Put for Input<Value> {
    #[inline(always)]
    fn put(&mut self, value: &Value) {
        self.write(*value);
    }
}

impl Get for Output<Value> {
    #[inline(always)]
    fn get(&mut self) -> Value {
        *self.read()
    }
}

impl Board for Triple {
    type Writer = Input<Value>;
    type Reader = Output<Value>;

    fn ends(_link: &Link) -> Result<(Input<Value>, Output<Value>)> {
        Ok(triple_buffer::triple_buffer(&[0; WORDS]))
    }
}
