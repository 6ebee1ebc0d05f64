//===- Output.cpp - writing what was made ---------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Temporary files are removed when the process ends by a signal, too: LLVM's
// TempFile sees to that.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Output.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

namespace delta::driver {

namespace {

LogicalResult cannotWrite(StringRef path, const Twine &why,
                          Reporter &reporter) {
  return reporter.error("cannot write '" + path + "': " + why);
}

/// Writes to something that must not be renamed over. Files, behind links, are
/// written anew; devices are there.
LogicalResult writeThrough(StringRef path, StringRef contents,
                           Reporter &reporter) {
  std::error_code code;
  raw_fd_ostream os(path, code,
                    sys::fs::is_regular_file(path) ? sys::fs::CD_CreateAlways
                                                   : sys::fs::CD_OpenExisting,
                    sys::fs::FA_Write, sys::fs::OF_None);
  if (!code) {
    os << contents;
    os.close();
    code = os.error();
    os.clear_error();
  }
  return code ? cannotWrite(path, code.message(), reporter) : success();
}

LogicalResult writeRenamed(StringRef path, StringRef contents,
                           Reporter &reporter) {
  // The usual permissions, less the process's mask.
  Expected<sys::fs::TempFile> temp = sys::fs::TempFile::create(
      path + ".%%%%%%.tmp",
      sys::fs::perms::all_read | sys::fs::perms::all_write);
  if (!temp)
    return cannotWrite(path, toString(temp.takeError()), reporter);
  std::error_code code;
  {
    raw_fd_ostream os(temp->FD, /*shouldClose=*/false);
    os << contents;
    os.flush();
    code = os.error();
    os.clear_error();
  }
  if (code) {
    consumeError(temp->discard());
    return cannotWrite(path, code.message(), reporter);
  }
  if (Error error = temp->keep(path))
    return cannotWrite(path, toString(std::move(error)), reporter);
  return success();
}

} // namespace

LogicalResult checkOutput(StringRef path, bool binary, Reporter &reporter) {
  if (path == "-") {
    if (binary && outs().is_displayed())
      return reporter.error("binary output would go to a terminal; give '-o "
                            "FILE', or '-o -' with a pipe");
    return success();
  }
  sys::fs::file_status status;
  if (!sys::fs::status(path, status)) {
    if (status.type() == sys::fs::file_type::directory_file)
      return cannotWrite(path, "it is a directory", reporter);
    // Renaming over a protected file would succeed.
    if (!sys::fs::can_write(path))
      return cannotWrite(path, "Permission denied", reporter);
    return success();
  }
  StringRef folder = sys::path::parent_path(path);
  if (!folder.empty() && !sys::fs::is_directory(folder))
    return cannotWrite(path, "there is no folder '" + folder + "'", reporter);
  return success();
}

LogicalResult flushOutput(Reporter &reporter) {
  outs().flush();
  std::error_code code = outs().error();
  if (!code)
    return success();
  outs().clear_error();
  return cannotWrite("-", code.message(), reporter);
}

LogicalResult writeOutput(StringRef path, StringRef contents, bool binary,
                          Reporter &reporter) {
  if (failed(checkOutput(path, binary, reporter)))
    return failure();
  if (path == "-") {
    outs() << contents;
    return flushOutput(reporter);
  }
  sys::fs::file_status status;
  if (sys::fs::exists(path) &&
      !sys::fs::status(path, status, /*follow=*/false) &&
      status.type() != sys::fs::file_type::regular_file)
    return writeThrough(path, contents, reporter);
  return writeRenamed(path, contents, reporter);
}

} // namespace delta::driver
