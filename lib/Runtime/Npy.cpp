//===- Npy.cpp - NumPy's .npy format --------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A parser for the Python dictionary that heads an .npy stream, and the reading
// of the data behind it. Sizes are compared with the stream's before memory is
// taken, so a header cannot ask for more than the file holds.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Npy.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace delta::runtime {

namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
// NumPy itself writes headers of a few hundred bytes and reads up to 10000.
constexpr uint32_t kMaxHeader = 1 << 16;
constexpr size_t kMaxRank = 64;

/// A cursor over the header's dictionary.
class HeaderParser {
public:
  explicit HeaderParser(std::string_view text) : text(text) {}

  Expected<NpyHeader> parse();

private:
  void skipBlanks() {
    while (pos < text.size() && (text[pos] == ' ' || text[pos] == '\t' ||
                                 text[pos] == '\n' || text[pos] == '\r'))
      ++pos;
  }
  bool consume(char c) {
    skipBlanks();
    if (pos >= text.size() || text[pos] != c)
      return false;
    ++pos;
    return true;
  }
  bool consumeWord(std::string_view word) {
    skipBlanks();
    if (text.substr(pos, word.size()) != word)
      return false;
    pos += word.size();
    return true;
  }
  /// A quoted string without escapes; descr and keys never need one.
  bool consumeString(std::string_view &value) {
    skipBlanks();
    if (pos >= text.size() || (text[pos] != '\'' && text[pos] != '"'))
      return false;
    size_t end = text.find(text[pos], pos + 1);
    if (end == std::string_view::npos)
      return false;
    value = text.substr(pos + 1, end - pos - 1);
    if (value.find('\\') != std::string_view::npos)
      return false;
    pos = end + 1;
    return true;
  }

  Status malformed(std::string_view expected) const {
    return Status::error("malformed .npy header: expected ", expected,
                         " at byte ", pos, " of the header");
  }
  Status parseDescr(NpyHeader &header);
  Status parseShape(Shape &shape);

  std::string_view text;
  size_t pos = 0;
};

/// Printable ASCII of something read from a file.
std::string quoted(std::string_view raw) {
  std::string result = "'";
  for (char c : raw.substr(0, 64))
    result += c >= 0x20 && c < 0x7f ? c : '?';
  return result + (raw.size() > 64 ? "...'" : "'");
}

Status HeaderParser::parseDescr(NpyHeader &header) {
  skipBlanks();
  if (pos < text.size() && text[pos] == '[')
    return Status::error("a structured element type is not supported; expected "
                         "a floating or integer array");
  std::string_view descr;
  if (!consumeString(descr))
    return malformed("an element type such as '<f4'");
  auto unsupported = [&](std::string_view what) {
    return Status::error("element type ", quoted(descr), what,
                         " is not supported; expected a floating or integer "
                         "array");
  };
  if (descr == "|O" || descr == "O")
    return unsupported(" (Python objects)");
  if (descr.size() < 3)
    return unsupported("");
  char order = descr[0], kind = descr[1];
  if (order != '<' && order != '>' && order != '=' && order != '|')
    return unsupported("");
  if (kind == 'c')
    return unsupported(" (complex numbers)");
  if (kind == 'U' || kind == 'S')
    return unsupported(" (strings)");
  size_t size = 0;
  for (char c : descr.substr(2)) {
    if (c < '0' || c > '9' || size > 100)
      return unsupported("");
    size = size * 10 + static_cast<size_t>(c - '0');
  }
  header.itemSize = size;
  header.bigEndian = order == '>';
  // A single byte has no order; for wider types '|' says nothing we could use.
  if (order == '|' && size != 1)
    return unsupported("");

  auto pick = [&](std::initializer_list<DType> bySize) -> bool {
    for (DType dtype : bySize)
      if (sizeOf(dtype) == size) {
        header.dtype = dtype;
        return true;
      }
    return false;
  };
  bool known = false;
  switch (kind) {
  case 'f':
    known = pick({DType::F64, DType::F32, DType::F16});
    // The extended format of x86: 64 bits of mantissa, padded to 12 or 16
    // bytes.
    if (!known && (size == 16 || size == 12) &&
        std::numeric_limits<long double>::digits == 64 && !header.bigEndian) {
      header.dtype = DType::F64;
      known = true;
    }
    break;
  case 'i':
    known = pick({DType::I8, DType::I16, DType::I32, DType::I64});
    break;
  case 'u':
    known = pick({DType::U8, DType::U16, DType::U32, DType::U64});
    break;
  case 'b':
    known = pick({DType::Bool});
    break;
  default:
    break;
  }
  return known ? Status() : unsupported("");
}

Status HeaderParser::parseShape(Shape &shape) {
  if (!consume('('))
    return malformed("a tuple of dims");
  bool trailingComma = false;
  while (!consume(')')) {
    if (!shape.empty() && !trailingComma)
      return malformed("',' or ')'");
    skipBlanks();
    if (pos < text.size() && text[pos] == '-')
      return Status::error("the header's shape has a negative dim");
    size_t begin = pos;
    int64_t dim = 0;
    for (; pos < text.size() && text[pos] >= '0' && text[pos] <= '9'; ++pos)
      if (__builtin_mul_overflow(dim, 10, &dim) ||
          __builtin_add_overflow(dim, text[pos] - '0', &dim))
        return Status::error("the header's shape does not fit 63 bits");
    if (pos == begin)
      return malformed("a dim");
    if (pos < text.size() && text[pos] == 'L') // Python 2's long
      ++pos;
    shape.push_back(dim);
    if (shape.size() > kMaxRank)
      return Status::error("the header's shape has more than ", kMaxRank,
                           " dims");
    trailingComma = consume(',');
  }
  // "(3)" is a number in Python, not a tuple.
  if (shape.size() == 1 && !trailingComma)
    return malformed("',' in a tuple of one");
  return Status();
}

Expected<NpyHeader> HeaderParser::parse() {
  NpyHeader header;
  bool haveDescr = false, haveOrder = false, haveShape = false;
  if (!consume('{'))
    return malformed("'{'");
  bool separated = true;
  while (!consume('}')) {
    if (!separated)
      return malformed("',' or '}'");
    std::string_view key;
    if (!consumeString(key))
      return malformed("a quoted key");
    if (!consume(':'))
      return malformed("':'");
    bool *seen = key == "descr"           ? &haveDescr
                 : key == "fortran_order" ? &haveOrder
                 : key == "shape"         ? &haveShape
                                          : nullptr;
    if (!seen)
      return Status::error("malformed .npy header: unknown key ", quoted(key));
    if (*seen)
      return Status::error("malformed .npy header: key ", quoted(key),
                           " appears twice");
    *seen = true;
    if (key == "descr") {
      if (Status status = parseDescr(header); !status.ok())
        return status;
    } else if (key == "fortran_order") {
      if (consumeWord("True"))
        header.fortranOrder = true;
      else if (!consumeWord("False"))
        return malformed("True or False");
    } else if (Status status = parseShape(header.shape); !status.ok()) {
      return status;
    }
    separated = consume(',');
  }
  skipBlanks();
  if (pos != text.size())
    return malformed("the end");
  for (auto [seen, key] :
       {std::pair(haveDescr, "descr"), std::pair(haveOrder, "fortran_order"),
        std::pair(haveShape, "shape")})
    if (!seen)
      return Status::error("malformed .npy header: key '", key, "' is missing");
  std::optional<int64_t> count = numElementsOf(header.shape);
  int64_t bytes;
  if (!count || __builtin_mul_overflow(
                    *count, static_cast<int64_t>(header.itemSize), &bytes))
    return Status::error("the header's shape ", toString(header.shape),
                         " does not fit 63 bits");
  return header;
}

/// Reads exactly `size` bytes.
Status readAll(const ByteReader &read, void *buffer, size_t size,
               std::string_view what) {
  Expected<size_t> got = read(buffer, size);
  if (!got)
    return got.error();
  if (*got != size)
    return Status::error("truncated ", what, ": expected ", size,
                         " bytes, got ", *got);
  return Status();
}

void swapBytes(uint8_t *data, int64_t count, size_t itemSize) {
  if (itemSize > 1)
    for (int64_t i = 0; i < count; ++i)
      std::reverse(data + i * itemSize, data + (i + 1) * itemSize);
}

/// Copies column-major elements into row-major order.
void copyFortranToC(const uint8_t *from, uint8_t *to, const Shape &shape,
                    size_t itemSize, int64_t count) {
  // Row-major order visits the last axis fastest, which is the slowest of the
  // source: walk with one running offset.
  size_t rank = shape.size();
  std::vector<int64_t> stride(rank), index(rank);
  int64_t step = 1;
  for (size_t i = 0; i < rank; ++i) {
    stride[i] = step;
    step *= shape[i];
  }
  int64_t offset = 0;
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * itemSize, from + offset * itemSize, itemSize);
    for (size_t axis = rank; axis-- > 0;) {
      offset += stride[axis];
      if (++index[axis] < shape[axis])
        break;
      offset -= stride[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

/// Narrows stored long doubles of `itemSize` bytes to doubles in place.
void narrowExtended(uint8_t *data, int64_t count, size_t itemSize) {
  for (int64_t i = 0; i < count; ++i) {
    long double wide = 0;
    // Ten bytes are the value, the rest is padding.
    std::memcpy(&wide, data + i * itemSize, 10);
    double narrow = static_cast<double>(wide);
    std::memcpy(data + i * sizeof(double), &narrow, sizeof(double));
  }
}

} // namespace

Expected<NpyHeader> parseNpyHeader(std::string_view text) {
  return HeaderParser(text).parse();
}

Expected<NdArray> readNpy(const ByteReader &read, uint64_t streamSize) {
  uint8_t preamble[12];
  if (Status status = readAll(read, preamble, 8, ".npy header"); !status.ok())
    return status;
  if (std::memcmp(preamble, kMagic.data(), kMagic.size()) != 0)
    return Status::error("not an .npy array: the magic string is missing");
  int major = preamble[6], minor = preamble[7];
  if (major < 1 || major > 3 || minor != 0)
    return Status::error(".npy version ", major, ".", minor,
                         " is not known; expected 1.0, 2.0 or 3.0");
  size_t lengthBytes = major == 1 ? 2 : 4;
  if (Status status = readAll(read, preamble + 8, lengthBytes, ".npy header");
      !status.ok())
    return status;
  uint32_t length = 0;
  for (size_t i = 0; i < lengthBytes; ++i)
    length |= static_cast<uint32_t>(preamble[8 + i]) << (8 * i);
  if (length > kMaxHeader)
    return Status::error("the .npy header claims ", length, " bytes; at most ",
                         kMaxHeader, " are accepted");
  std::string text(length, '\0');
  if (Status status = readAll(read, text.data(), length, ".npy header");
      !status.ok())
    return status;
  Expected<NpyHeader> header = parseNpyHeader(text);
  if (!header)
    return header.error();

  uint64_t rest =
      streamSize - std::min<uint64_t>(streamSize, 8 + lengthBytes + length);
  std::optional<int64_t> count = numElementsOf(header->shape);
  uint64_t needed = static_cast<uint64_t>(*count) * header->itemSize;
  if (rest < needed)
    return Status::error("truncated: shape ", toString(header->shape), " of ",
                         header->itemSize, "-byte elements needs ", needed,
                         " bytes, got ", rest);
  if (rest > needed)
    return Status::error("shape ", toString(header->shape), " of ",
                         header->itemSize, "-byte elements needs ", needed,
                         " bytes, but ", rest, " follow the header");

  // Extended floats are stored wider than they are kept: a byte array holds
  // them until they are narrowed.
  bool extended = header->itemSize != sizeOf(header->dtype);
  bool direct = !extended && !header->fortranOrder;
  Expected<NdArray> array =
      NdArray::uninitialized(header->dtype, header->shape);
  if (!array)
    return array;
  std::optional<NdArray> raw;
  if (!direct) {
    Expected<NdArray> bytes =
        NdArray::uninitialized(DType::U8, {static_cast<int64_t>(needed)});
    if (!bytes)
      return bytes;
    raw = std::move(*bytes);
  }
  uint8_t *stored = direct ? array->as<uint8_t>() : raw->as<uint8_t>();
  if (Status status = readAll(read, stored, needed, "data"); !status.ok())
    return status;
  // The end must be reached too: archives verify their checksum there.
  uint8_t extra;
  if (Expected<size_t> end = read(&extra, 1); !end)
    return end.error();

  if (header->bigEndian)
    swapBytes(stored, *count, header->itemSize);
  if (extended)
    narrowExtended(stored, *count, header->itemSize);
  if (!direct) {
    // A column or a vector needs no transposition, but the copy is cheap.
    if (header->fortranOrder)
      copyFortranToC(stored, array->as<uint8_t>(), header->shape,
                     sizeOf(header->dtype), *count);
    else
      std::memcpy(array->data(), stored, array->sizeInBytes());
  }
  return array;
}

std::string makeNpyHeader(const NdArray &array) {
  const char *descr = nullptr;
  switch (array.dtype()) {
  case DType::F64:
    descr = "<f8";
    break;
  case DType::F32:
    descr = "<f4";
    break;
  case DType::F16:
    descr = "<f2";
    break;
  case DType::I8:
    descr = "|i1";
    break;
  case DType::I16:
    descr = "<i2";
    break;
  case DType::I32:
    descr = "<i4";
    break;
  case DType::I64:
    descr = "<i8";
    break;
  case DType::U8:
    descr = "|u1";
    break;
  case DType::U16:
    descr = "<u2";
    break;
  case DType::U32:
    descr = "<u4";
    break;
  case DType::U64:
    descr = "<u8";
    break;
  case DType::Bool:
    descr = "|b1";
    break;
  case DType::BF16:
    assert(false && "bf16 has no .npy type");
    descr = "<f4";
    break;
  }
  std::string shape = toString(array.shape());
  if (array.rank() == 1)
    shape.insert(shape.size() - 1, ",");
  std::string text = std::string("{'descr': '") + descr +
                     "', 'fortran_order': False, 'shape': " + shape + ", }";
  // The data start at a multiple of 64 bytes, after a newline.
  size_t unpadded = kMagic.size() + 4 + text.size() + 1;
  text.append((64 - unpadded % 64) % 64, ' ');
  text += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\0';
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

} // namespace delta::runtime
