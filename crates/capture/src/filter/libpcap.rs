//! libpcap's compiler of filter expressions, loaded when the first filter is.
//!
//! The language has no specification but this compiler, so it is the one that is used. It is loaded
//! at run time and not linked: the program needs it for filters only, builds without its headers,
//! and runs where it is not installed.

// This file is the border to a C library: each block has its reason.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;

use super::program::Instruction;

/// The names of the library: of its own makefile, of Debian, of a development package.
const NAMES: [&str; 3] = ["libpcap.so.1", "libpcap.so.0.8", "libpcap.so"];

/// Bytes of a frame that a capture keeps: tcpdump's limit.
const SNAPLEN: c_int = 262_144;
/// What tcpdump gives when it reads a file: `ip broadcast` is the address of all ones or zeros.
const NETMASK: u32 = 0;

/// C's `struct bpf_program`.
#[repr(C)]
struct CProgram {
    len: c_uint,
    instructions: *mut Instruction,
}

/// A `pcap_t`, of which only the library knows the inside.
enum Handle {}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut Handle;
type Compile = unsafe extern "C" fn(*mut Handle, *mut CProgram, *const c_char, c_int, u32) -> c_int;
type GetError = unsafe extern "C" fn(*mut Handle) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut CProgram);
type Close = unsafe extern "C" fn(*mut Handle);

/// The functions of the library, which stays loaded.
struct Functions {
    open_dead: OpenDead,
    compile: Compile,
    get_error: GetError,
    free_code: FreeCode,
    close: Close,
}

/// Why there is no program.
#[derive(Debug)]
pub(super) enum CompileError {
    /// The library cannot be loaded, for this reason.
    Missing(String),
    /// The library refuses the expression, with these words.
    Refused(String),
}

/// Compiles an expression for whole frames of a link type (`DLT_`) in a file.
pub(super) fn compile(expression: &CString, dlt: c_int) -> Result<Vec<Instruction>, CompileError> {
    static FUNCTIONS: OnceLock<Result<Functions, String>> = OnceLock::new();
    /// Versions before 1.8 compile with global state.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let functions = FUNCTIONS.get_or_init(load).as_ref();
    functions.map_err(|error| CompileError::Missing(error.clone()))?.compile(expression, dlt)
}

fn load() -> Result<Functions, String> {
    let mut reason = String::new();
    for name in NAMES {
        // SAFETY: loading runs the library's initializers. libpcap has none that touch our state.
        match unsafe { Library::new(name) } {
            Ok(library) => return functions(library).map_err(|error| error.to_string()),
            // The first name is that of most systems.
            Err(error) if reason.is_empty() => reason = error.to_string(),
            Err(_) => {}
        }
    }
    Err(reason)
}

fn functions(library: Library) -> Result<Functions, libloading::Error> {
    // SAFETY: pcap(3PCAP) declares the function with this type.
    let open_dead = *unsafe { library.get::<OpenDead>(b"pcap_open_dead\0") }?;
    // SAFETY: pcap(3PCAP) declares the function with this type.
    let compile = *unsafe { library.get::<Compile>(b"pcap_compile\0") }?;
    // SAFETY: pcap(3PCAP) declares the function with this type.
    let get_error = *unsafe { library.get::<GetError>(b"pcap_geterr\0") }?;
    // SAFETY: pcap(3PCAP) declares the function with this type.
    let free_code = *unsafe { library.get::<FreeCode>(b"pcap_freecode\0") }?;
    // SAFETY: pcap(3PCAP) declares the function with this type.
    let close = *unsafe { library.get::<Close>(b"pcap_close\0") }?;
    // The functions must outlive this call, so the library is never unloaded.
    std::mem::forget(library);
    Ok(Functions { open_dead, compile, get_error, free_code, close })
}

impl Functions {
    fn compile(&self, expression: &CString, dlt: c_int) -> Result<Vec<Instruction>, CompileError> {
        // SAFETY: it takes two numbers and returns a handle, or null when memory is short.
        let handle = NonNull::new(unsafe { (self.open_dead)(dlt, SNAPLEN) })
            .ok_or_else(|| CompileError::Refused("out of memory".to_owned()))?;
        let mut program = CProgram { len: 0, instructions: ptr::null_mut() };
        // SAFETY: the handle is open, `program` is to be filled in, and the expression ends in NUL.
        let status = unsafe {
            (self.compile)(handle.as_ptr(), &raw mut program, expression.as_ptr(), 1, NETMASK)
        };
        let result = if status == 0 {
            let instructions = copy(&program);
            // SAFETY: the library filled in `program` and nothing refers to its memory any more.
            unsafe { (self.free_code)(&raw mut program) };
            Ok(instructions)
        } else {
            Err(CompileError::Refused(self.error(handle)))
        };
        // SAFETY: the handle is open, and not used after this.
        unsafe { (self.close)(handle.as_ptr()) };
        result
    }

    fn error(&self, handle: NonNull<Handle>) -> String {
        // SAFETY: the handle is open. The text lies in it.
        let text = unsafe { (self.get_error)(handle.as_ptr()) };
        // SAFETY: the text ends in NUL, and stays until the next call with this handle.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

fn copy(program: &CProgram) -> Vec<Instruction> {
    if program.instructions.is_null() {
        return Vec::new();
    }
    // SAFETY: the library filled in so many instructions, whose layout is that of `Instruction`.
    unsafe { slice::from_raw_parts(program.instructions, program.len as usize) }.to_vec()
}
