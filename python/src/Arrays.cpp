//===- Arrays.cpp - arrays of Python --------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A torch tensor is looked at through torch's own table of C functions, which
// takes nanoseconds; everything else through nanobind's arrays.
//
//===----------------------------------------------------------------------===//

#include "Arrays.h"

#include <cstring>
#include <optional>

namespace deltac {

Torch &torch() {
  // Never destroyed: Python may be gone by then.
  static Torch *instance = new Torch;
  return *instance;
}

void setTorch(nb::object tensorType, nb::object parameterType,
              nb::object isGradEnabled, nb::object isWatched, nb::object empty,
              nb::object stream, bool usesTable) {
  Torch &known = torch();
  nb::object capsule =
      nb::getattr(tensorType, "__dlpack_c_exchange_api__", nb::none());
  known.table = nullptr;
  if (usesTable && !capsule.is_none())
    for (auto *header = static_cast<dl::ExchangeHeader *>(
             PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
         header; header = header->previous)
      if (header->version.major == 1) {
        known.table = reinterpret_cast<dl::ExchangeTable *>(header);
        break;
      }
  PyErr_Clear();
  known.tensorType = tensorType.release().ptr();
  known.parameterType = parameterType.release().ptr();
  known.isGradEnabled = isGradEnabled.release().ptr();
  known.isWatched = isWatched.release().ptr();
  known.empty = empty.release().ptr();
  known.stream = stream.release().ptr();
}

size_t sizeOf(delta_dtype dtype) {
  return dtype == DELTA_F64 ? 8 : dtype == DELTA_F32 ? 4 : 2;
}

const char *longNameOf(delta_dtype dtype) {
  switch (dtype) {
  case DELTA_F64:
    return "float64";
  case DELTA_F16:
    return "float16";
  case DELTA_BF16:
    return "bfloat16";
  default:
    return "float32";
  }
}

std::string Place::describe() const {
  std::string text =
      framework == Framework::Torch ? "a torch tensor on " : "an array on ";
  return text + (device.type == dl::CPU
                     ? "the CPU"
                     : "CUDA device " + std::to_string(device.index));
}

int64_t ArrayView::count() const {
  int64_t product = 1;
  for (size_t i = 0; i < rank; ++i)
    product *= shape[i];
  return product;
}

bool ArrayView::isDense() const {
  if (count() == 0) // then strides are anything
    return true;
  int64_t expected = 1;
  for (size_t i = rank; i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected)
      return false;
    expected *= shape[i];
  }
  return true;
}

std::string ArrayView::describeShape() const {
  std::string text = "(";
  for (size_t i = 0; i < rank; ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (rank == 1 ? ",)" : ")");
}

static bool toDType(uint8_t code, uint8_t bits, uint16_t lanes,
                    delta_dtype &dtype) {
  if (lanes != 1)
    return false;
  if (code == dl::BFloat && bits == 16) {
    dtype = DELTA_BF16;
    return true;
  }
  if (code != dl::Float)
    return false;
  switch (bits) {
  case 64:
    dtype = DELTA_F64;
    return true;
  case 32:
    dtype = DELTA_F32;
    return true;
  case 16:
    dtype = DELTA_F16;
    return true;
  default:
    return false;
  }
}

[[noreturn]] static void refuse(PyObject *object, const char *name) {
  std::string type = "an unknown type";
  nb::object dtype = nb::getattr(nb::handle(object), "dtype", nb::none());
  if (!dtype.is_none())
    type = nb::cast<std::string>(nb::str(dtype));
  throw nb::type_error(("argument '" + std::string(name) + "' has dtype " +
                        type +
                        "; expected float32, bfloat16, float16 or float64")
                           .c_str());
}

template <typename TensorLike>
static void fill(const TensorLike &tensor, ArrayView &view) {
  for (size_t i = 0; i < view.rank; ++i)
    view.shape[i] = tensor.shape[i];
  if (tensor.strides) {
    for (size_t i = 0; i < view.rank; ++i)
      view.strides[i] = tensor.strides[i];
    return;
  }
  int64_t stride = 1;
  for (size_t i = view.rank; i-- > 0;) {
    view.strides[i] = stride;
    stride *= view.shape[i];
  }
}

static void checkRank(size_t rank, const char *name) {
  if (rank > kMaxRank)
    throw nb::value_error(("argument '" + std::string(name) + "' has " +
                           std::to_string(rank) + " axes; at most 5 are used")
                              .c_str());
}

/// The bits of a NumPy array in ml_dtypes' bfloat16, a type that NumPy does not
/// show to others.
static bool readBFloat16(nb::handle object, nb::ndarray<nb::ro> &array) {
  nb::object dtype = nb::getattr(object, "dtype");
  if (std::strcmp(Py_TYPE(object.ptr())->tp_name, "numpy.ndarray") != 0 ||
      nb::cast<std::string>(nb::str(dtype)) != "bfloat16")
    return false;
  return nb::try_cast<nb::ndarray<nb::ro>>(object.attr("view")("uint16"),
                                           array);
}

Kind ArrayReader::read(PyObject *object, const char *name, ArrayView &view) {
  Torch &known = torch();
  auto *type = reinterpret_cast<PyObject *>(Py_TYPE(object));
  bool plainTorch = known.tensorType &&
                    (type == known.tensorType || type == known.parameterType);
  if (plainTorch && known.table && known.table->view) {
    dl::Tensor tensor;
    if (known.table->view(object, &tensor) != 0) {
      PyErr_Clear();
      return Kind::Indirect;
    }
    checkRank(static_cast<size_t>(tensor.rank), name);
    if (tensor.device.type != dl::CPU && tensor.device.type != dl::CUDA)
      return Kind::Indirect;
    if (!toDType(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes,
                 view.dtype))
      refuse(object, name);
    view.data = static_cast<char *>(tensor.data) + tensor.byteOffset;
    view.rank = static_cast<size_t>(tensor.rank);
    view.place = {Framework::Torch, tensor.device};
    fill(tensor, view);
    return Kind::Array;
  }
  if (known.tensorType && !plainTorch) {
    int derived = PyObject_IsInstance(object, known.tensorType);
    if (derived < 0)
      PyErr_Clear();
    if (derived == 1)
      return Kind::Indirect;
  }
  if (PyFloat_Check(object) || PyLong_Check(object) || object == Py_None)
    return Kind::NotAnArray;
  nb::ndarray<nb::ro> array;
  nb::object source = nb::borrow(object);
  if (plainTorch) // without the table, torch refuses what needs a gradient
    source = source.attr("detach")();
  bool isBFloat16 = false;
  if (!nb::try_cast<nb::ndarray<nb::ro>>(source, array)) {
    if (!nb::hasattr(source, "dtype"))
      return Kind::NotAnArray;
    isBFloat16 = readBFloat16(source, array);
    if (!isBFloat16)
      refuse(object, name);
  }
  checkRank(array.ndim(), name);
  if (isBFloat16)
    view.dtype = DELTA_BF16;
  else if (!toDType(array.dtype().code, array.dtype().bits, array.dtype().lanes,
                    view.dtype))
    refuse(object, name);
  view.data =
      const_cast<char *>(static_cast<const char *>(array.data_handle())) +
      array.byte_offset();
  view.rank = array.ndim();
  view.place = {plainTorch ? Framework::Torch : Framework::NumPy,
                {array.device_type(), array.device_id()}};
  for (size_t i = 0; i < view.rank; ++i) {
    view.shape[i] = static_cast<int64_t>(array.shape(i));
    view.strides[i] = array.stride(i);
  }
  kept.push_back(std::move(array));
  return Kind::Array;
}

bool ArrayReader::isIndirect(PyObject *object) {
  Torch &known = torch();
  if (!known.tensorType)
    return false;
  auto *type = reinterpret_cast<PyObject *>(Py_TYPE(object));
  if (type != known.tensorType && type != known.parameterType)
    return PyObject_IsInstance(object, known.tensorType) == 1;
  if (!known.table || !known.table->view)
    return false;
  dl::Tensor tensor;
  if (known.table->view(object, &tensor) != 0) {
    PyErr_Clear();
    return true;
  }
  return tensor.device.type != dl::CPU && tensor.device.type != dl::CUDA;
}

bool isWatched(PyObject *const *objects, size_t count) {
  Torch &known = torch();
  auto isTrue = [](PyObject *result) {
    if (!result)
      throw nb::python_error();
    bool value = result == Py_True;
    Py_DECREF(result);
    return value;
  };
  if (isTrue(PyObject_CallNoArgs(known.isWatched)))
    return true;
  if (!isTrue(PyObject_CallNoArgs(known.isGradEnabled)))
    return false;
  static PyObject *name = PyUnicode_InternFromString("requires_grad");
  for (size_t i = 0; i < count; ++i)
    if (objects[i] && objects[i] != Py_None &&
        isTrue(PyObject_GetAttr(objects[i], name)))
      return true;
  return false;
}

static dl::DataType toDL(delta_dtype dtype) {
  return {static_cast<uint8_t>(dtype == DELTA_BF16 ? dl::BFloat : dl::Float),
          static_cast<uint8_t>(8 * sizeOf(dtype)), 1};
}

static void setError(void *, const char *, const char *message) {
  nb::gil_scoped_acquire acquire;
  PyErr_SetString(PyExc_RuntimeError, message);
}

nb::object makeArray(const Place &place, delta_dtype dtype,
                     const std::vector<int64_t> &shape, void **data) {
  Torch &known = torch();
  if (place.framework == Framework::Torch && known.table) {
    dl::Tensor prototype = {};
    prototype.device = place.device;
    prototype.rank = static_cast<int32_t>(shape.size());
    prototype.dtype = toDL(dtype);
    prototype.shape = const_cast<int64_t *>(shape.data());
    dl::ManagedTensor *managed = nullptr;
    if (known.table->allocate(&prototype, &managed, nullptr, setError) != 0)
      throw nb::python_error();
    *data =
        static_cast<char *>(managed->tensor.data) + managed->tensor.byteOffset;
    void *object = nullptr;
    if (known.table->toObject(managed, &object) != 0)
      throw nb::python_error();
    return nb::steal(static_cast<PyObject *>(object));
  }
  nb::list sizes;
  for (int64_t size : shape)
    sizes.append(size);
  nb::object made;
  if (place.framework == Framework::Torch) {
    made = nb::borrow(known.empty)(
        nb::tuple(sizes), longNameOf(dtype),
        place.device.type == dl::CPU ? -1 : place.device.index);
    *data =
        reinterpret_cast<void *>(nb::cast<uintptr_t>(made.attr("data_ptr")()));
    return made;
  }
  static PyObject *empty =
      nb::object(nb::module_::import_("numpy").attr("empty")).release().ptr();
  bool isBFloat16 = dtype == DELTA_BF16;
  nb::object type =
      isBFloat16
          ? nb::module_::import_("deltac._arrays").attr("find_bfloat16")()
          : nb::object(nb::str(longNameOf(dtype)));
  made = nb::borrow(empty)(nb::tuple(sizes), type);
  auto array =
      nb::cast<nb::ndarray<>>(isBFloat16 ? made.attr("view")("uint16") : made);
  *data = static_cast<char *>(array.data_handle()) + array.byte_offset();
  return made;
}

void *currentStream(int32_t index) {
  Torch &known = torch();
  void *stream = nullptr;
  if (known.table) {
    if (known.table->currentStream(dl::CUDA, index, &stream) != 0)
      throw nb::python_error();
  } else if (known.stream) {
    stream = reinterpret_cast<void *>(
        nb::cast<uintptr_t>(nb::borrow(known.stream)(index)));
  }
  return stream;
}

Scratch allocateScratch(size_t bytes) {
  bytes = (bytes + 127) / 64 * 64;
  auto *memory = static_cast<char *>(std::aligned_alloc(64, bytes));
  if (!memory)
    throw std::bad_alloc();
  return Scratch(memory, std::free);
}

/// Copies axes from `axis` on; the innermost at once where it has no gaps.
static char *packAxis(const ArrayView &view, size_t axis, const char *from,
                      char *to, size_t unit) {
  if (axis == view.rank) {
    std::memcpy(to, from, unit);
    return to + unit;
  }
  auto step =
      static_cast<ptrdiff_t>(view.strides[axis]) * static_cast<ptrdiff_t>(unit);
  if (axis + 1 == view.rank) {
    if (view.strides[axis] == 1) {
      size_t bytes = static_cast<size_t>(view.shape[axis]) * unit;
      std::memcpy(to, from, bytes);
      return to + bytes;
    }
    for (int64_t i = 0; i < view.shape[axis]; ++i, from += step, to += unit)
      std::memcpy(to, from, unit);
    return to;
  }
  for (int64_t i = 0; i < view.shape[axis]; ++i, from += step)
    to = packAxis(view, axis + 1, from, to, unit);
  return to;
}

Scratch packDense(const ArrayView &view) {
  size_t unit = sizeOf(view.dtype);
  size_t bytes = static_cast<size_t>(view.count()) * unit;
  Scratch copy = allocateScratch(bytes);
  if (bytes == 0)
    return copy;
  // Other threads may run while much is copied; the caller holds the array.
  std::optional<nb::gil_scoped_release> release;
  if (bytes > (size_t(1) << 18))
    release.emplace();
  packAxis(view, 0, view.data, copy.get(), unit);
  return copy;
}

} // namespace deltac
