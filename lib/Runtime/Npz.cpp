//===- Npz.cpp - archives of named arrays ---------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The zip container comes from libzip; what it says about sizes is checked
// against what the file can hold before anything is allocated.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Npz.h"

#include "delta/Runtime/Npy.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <unordered_map>
#include <zip.h>

namespace delta::runtime {

namespace {

// Deflate cannot expand by more than 1032; a little is added for tiny members.
constexpr uint64_t kMaxDeflateRatio = 1032;

/// The last system error as text.
std::string systemError() { return std::strerror(errno); }

/// File and array names are shown in messages: keep terminals safe.
std::string printable(std::string_view raw) {
  std::string result;
  for (char c : raw)
    result += static_cast<unsigned char>(c) >= 0x20 && c != 0x7f ? c : '?';
  return result;
}

struct Member {
  zip_uint64_t index;
  uint64_t size;
};

struct ZipClose {
  void operator()(zip_t *zip) const { zip_discard(zip); }
};
using ZipHandle = std::unique_ptr<zip_t, ZipClose>;

struct ZipFileClose {
  void operator()(zip_file_t *file) const { zip_fclose(file); }
};

/// The message of a libzip error object, which is released.
std::string takeMessage(zip_error_t &error) {
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

} // namespace

struct NpzReader::Impl {
  std::string path;
  ZipHandle zip;
  std::vector<std::string> names;
  std::unordered_map<std::string, Member> members;

  /// Reads the table of contents.
  Status index();
  Status check(const std::string &name, const zip_stat_t &stat) const;
};

NpzReader::NpzReader(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
NpzReader::NpzReader(NpzReader &&) noexcept = default;
NpzReader &NpzReader::operator=(NpzReader &&) noexcept = default;
NpzReader::~NpzReader() = default;

const std::string &NpzReader::path() const { return impl->path; }

const std::vector<std::string> &NpzReader::names() const { return impl->names; }

bool NpzReader::contains(const std::string &name) const {
  return impl->members.count(name) != 0;
}

Status NpzReader::Impl::check(const std::string &name,
                              const zip_stat_t &stat) const {
  constexpr zip_uint64_t kNeeded = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE |
                                   ZIP_STAT_COMP_METHOD |
                                   ZIP_STAT_ENCRYPTION_METHOD;
  if ((stat.valid & kNeeded) != kNeeded)
    return Status::error(path, ": array '", name,
                         "': the archive's entry is incomplete");
  if (stat.encryption_method != ZIP_EM_NONE)
    return Status::error(path, ": array '", name, "' is encrypted");
  if (stat.comp_method != ZIP_CM_STORE && stat.comp_method != ZIP_CM_DEFLATE)
    return Status::error(path, ": array '", name, "' is compressed by method ",
                         stat.comp_method,
                         "; expected a stored or deflated member");
  bool believable = stat.comp_method == ZIP_CM_STORE
                        ? stat.size == stat.comp_size
                        : stat.size / kMaxDeflateRatio <= stat.comp_size;
  if (!believable)
    return Status::error(path, ": array '", name, "': the archive claims ",
                         stat.size, " bytes in ", stat.comp_size,
                         " stored ones");
  return Status();
}

Status NpzReader::Impl::index() {
  zip_int64_t count = zip_get_num_entries(zip.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    if (zip_stat_index(zip.get(), i, ZIP_FL_ENC_RAW, &stat) != 0)
      return Status::error(path, ": entry ", i,
                           " of the archive: ", zip_strerror(zip.get()));
    std::string name = (stat.valid & ZIP_STAT_NAME) ? stat.name : "";
    constexpr std::string_view kSuffix = ".npy";
    if (name.size() <= kSuffix.size() ||
        name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) !=
            0)
      return Status::error(path, ": member '", printable(name),
                           "' is not an .npy array");
    name = printable(name.substr(0, name.size() - kSuffix.size()));
    if (Status status = check(name, stat); !status.ok())
      return status;
    if (!members.emplace(name, Member{stat.index, stat.size}).second)
      return Status::error(path, ": array '", name, "' appears twice");
    names.push_back(std::move(name));
  }
  return Status();
}

Expected<NpzReader> NpzReader::open(const std::string &path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0)
    return Status::error("cannot read '", path, "': ", systemError());
  if (!S_ISREG(info.st_mode))
    return Status::error("cannot read '", path, "': ",
                         S_ISDIR(info.st_mode) ? "it is a directory"
                                               : "it is not a regular file");
  int code = 0;
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->zip.reset(zip_open(path.c_str(), ZIP_RDONLY, &code));
  if (!impl->zip) {
    if (code == ZIP_ER_NOZIP || code == ZIP_ER_INCONS)
      return Status::error("'", path, "' is not an .npz archive",
                           code == ZIP_ER_INCONS ? ": it is damaged" : "");
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    return Status::error("cannot read '", path, "': ", takeMessage(error));
  }
  if (Status status = impl->index(); !status.ok())
    return status;
  return NpzReader(std::move(impl));
}

Expected<NpzReader> NpzReader::openBytes(const void *data, size_t size,
                                         const std::string &name) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t *source = zip_source_buffer_create(data, size, 0, &error);
  if (!source)
    return Status::error("cannot read '", name, "': ", takeMessage(error));
  auto impl = std::make_unique<Impl>();
  impl->path = name;
  impl->zip.reset(zip_open_from_source(source, ZIP_RDONLY, &error));
  if (!impl->zip) {
    zip_source_free(source);
    return Status::error("'", name,
                         "' is not an .npz archive: ", takeMessage(error));
  }
  zip_error_fini(&error);
  if (Status status = impl->index(); !status.ok())
    return status;
  return NpzReader(std::move(impl));
}

Expected<NdArray> NpzReader::read(const std::string &name) const {
  auto it = impl->members.find(name);
  if (it == impl->members.end())
    return Status::error(impl->path, ": there is no array '", name, "'");
  auto located = [&](const std::string &message) {
    return Status::error(impl->path, ": array '", name, "': ", message);
  };
  std::unique_ptr<zip_file_t, ZipFileClose> file(
      zip_fopen_index(impl->zip.get(), it->second.index, 0));
  if (!file)
    return located(zip_strerror(impl->zip.get()));
  ByteReader read = [&](void *buffer, size_t size) -> Expected<size_t> {
    size_t done = 0;
    while (done < size) {
      zip_int64_t got = zip_fread(
          file.get(), static_cast<char *>(buffer) + done, size - done);
      if (got < 0)
        return Status::error("damaged data: ", zip_file_strerror(file.get()));
      if (got == 0)
        break;
      done += static_cast<size_t>(got);
    }
    return done;
  };
  Expected<NdArray> array = readNpy(read, it->second.size);
  if (!array)
    return located(array.message());
  return array;
}

namespace {

/// One array's bytes as a zip source: header and data without a joint copy.
struct ArraySource {
  std::string header;
  const NdArray *array = nullptr;
  std::optional<NdArray> widened;
};

/// Adds `source` to the archive under `name`, stored, with a fixed date.
Status addMember(zip_t *zip, const std::string &name,
                 const ArraySource &source) {
  zip_error_t error;
  zip_error_init(&error);
  zip_buffer_fragment_t parts[2];
  parts[0].data =
      reinterpret_cast<zip_uint8_t *>(const_cast<char *>(source.header.data()));
  parts[0].length = source.header.size();
  parts[1].data =
      static_cast<zip_uint8_t *>(const_cast<void *>(source.array->data()));
  parts[1].length = source.array->sizeInBytes();
  zip_uint64_t numParts = parts[1].length ? 2 : 1;
  zip_source_t *data =
      zip_source_buffer_fragment_create(parts, numParts, 0, &error);
  if (!data)
    return Status::error(takeMessage(error));
  zip_error_fini(&error);
  zip_int64_t index =
      zip_file_add(zip, (name + ".npy").c_str(), data, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    zip_source_free(data);
    return Status::error(zip_strerror(zip));
  }
  constexpr zip_uint16_t kFirstOfJanuary1980 = (1 << 5) | 1;
  if (zip_set_file_compression(zip, index, ZIP_CM_STORE, 0) != 0 ||
      zip_file_set_dostime(zip, index, 0, kFirstOfJanuary1980, 0) != 0)
    return Status::error(zip_strerror(zip));
  return Status();
}

/// An archive that grows in memory.
struct MemoryArchive {
  zip_source_t *source = nullptr;
  ~MemoryArchive() {
    if (source)
      zip_source_free(source);
  }

  /// Opens it for writing; the source outlives the handle.
  ZipHandle open(std::string &why) {
    zip_error_t error;
    zip_error_init(&error);
    source = zip_source_buffer_create(nullptr, 0, /*freep=*/0, &error);
    ZipHandle zip(source ? zip_open_from_source(source, ZIP_TRUNCATE, &error)
                         : nullptr);
    if (!zip) {
      why = takeMessage(error);
      return zip;
    }
    zip_error_fini(&error);
    zip_source_keep(source);
    return zip;
  }

  /// Writes what was closed into an existing file.
  Status writeTo(const std::string &path) {
    int file = ::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (file < 0)
      return Status::error(systemError());
    Status status;
    if (zip_source_open(source) != 0) {
      status = Status::error(zip_error_strerror(zip_source_error(source)));
    } else {
      std::vector<char> chunk(1 << 16);
      zip_int64_t count;
      while (status.ok() &&
             (count = zip_source_read(source, chunk.data(), chunk.size())) > 0)
        for (zip_int64_t done = 0; done < count && status.ok();) {
          ssize_t wrote = ::write(file, chunk.data() + done, count - done);
          if (wrote >= 0)
            done += wrote;
          else if (errno != EINTR)
            status = Status::error(systemError());
        }
      if (status.ok() && count < 0)
        status = Status::error(zip_error_strerror(zip_source_error(source)));
      zip_source_close(source);
    }
    if (::close(file) != 0 && status.ok())
      status = Status::error(systemError());
    return status;
  }
};

} // namespace

Status writeNpz(const std::string &path,
                const std::vector<NamedArray> &arrays) {
  auto cannot = [&](const std::string &why) {
    return Status::error("cannot write '", path, "': ", why);
  };
  // libzip replaces the file by renaming, which would turn a device, a pipe or
  // a link, such as /dev/stdout, into a plain file.
  struct stat info, own;
  bool exists =
      ::stat(path.c_str(), &info) == 0 && ::lstat(path.c_str(), &own) == 0;
  bool inPlace = exists && !S_ISREG(own.st_mode);
  if (exists && S_ISDIR(info.st_mode))
    return cannot("it is a directory");
  // Nor may it replace a protected one.
  if (::access(path.c_str(), F_OK) == 0 && ::access(path.c_str(), W_OK) != 0)
    return cannot(systemError());

  std::vector<ArraySource> sources(arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    ArraySource &source = sources[i];
    source.array = arrays[i].second;
    DType dtype = source.array->dtype();
    if (dtype == DType::BF16 || dtype == DType::F16) {
      Expected<NdArray> widened = source.array->convertTo(DType::F32);
      if (!widened)
        return cannot(widened.message());
      source.widened = std::move(*widened);
      source.array = &*source.widened;
    }
    source.header = makeNpyHeader(*source.array);
  }

  MemoryArchive memory;
  ZipHandle zip;
  if (inPlace) {
    std::string why;
    zip = memory.open(why);
    if (!zip)
      return cannot(why);
  } else {
    int code = 0;
    zip.reset(zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code));
    if (!zip) {
      zip_error_t error;
      zip_error_init_with_code(&error, code);
      return cannot(takeMessage(error));
    }
  }
  for (size_t i = 0; i < arrays.size(); ++i)
    if (Status status = addMember(zip.get(), arrays[i].first, sources[i]);
        !status.ok())
      return cannot(status.message());
  // Closing writes a temporary file beside the target and renames it.
  if (zip_close(zip.get()) != 0)
    return cannot(zip_strerror(zip.get()));
  zip.release();
  if (inPlace)
    if (Status status = memory.writeTo(path); !status.ok())
      return cannot(status.message());
  return Status();
}

} // namespace delta::runtime
