//! Tests of the handles.
