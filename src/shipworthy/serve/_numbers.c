/* Short numbers in JSON to floats: the common ones, in one pass over their text, without an object for each.

   A number is taken where its digits make a whole number up to 2**53 and its power of ten is one up to 10**22: both are
   doubles, so one multiplication or division of them is rounded as the number itself would be (W. D. Clinger, How to read
   floating point numbers accurately, PLDI 1990). texts.py has another reader for all others, and for what is no number:
   here those are only told apart from what is taken. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <float.h>
#include <math.h>
#include <stdint.h>

#if FLT_EVAL_METHOD != 0
#error "doubles are computed with more digits than they have here: one division may round twice"
#endif

#define MOST_DIGITS 19 /* a whole number of so many digits fits 64 bits */
#define MOST_POWER 22

static const double POWERS[MOST_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Every bytes object ends with a NUL, which is neither: reading on while these hold ends there. */
static int is_digit(char c) { return c >= '0' && c <= '9'; }
static int is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static const char *digits(const char *at, uint64_t *number)
{
    for (; is_digit(*at); at++)
        *number = *number * 10 + (uint64_t)(*at - '0'); /* beyond MOST_DIGITS it is wrong, and not used */
    return at;
}

/* Reads the number that begins at `at`; where it ends, or NULL: it is none, or none of those that are taken. */
static const char *number(const char *at, double *value)
{
    int negative = *at == '-';
    uint64_t whole = 0, power = 0;
    Py_ssize_t tens = 0;
    const char *begin = at += negative, *end = digits(at, &whole);
    if (end == begin || (*begin == '0' && end > begin + 1))
        return NULL;
    Py_ssize_t count = end - begin;
    if (whole == 0 && *end != '.' && *end != 'e' && *end != 'E')
        negative = 0; /* -0 is the integer 0, -0.0 is not */
    if (*end == '.') {
        begin = end + 1;
        end = digits(begin, &whole);
        if (end == begin)
            return NULL;
        tens = begin - end;
        count += end - begin;
    }
    if (*end == 'e' || *end == 'E') {
        int down = end[1] == '-';
        begin = end + 1 + (down || end[1] == '+');
        end = digits(begin, &power);
        if (end == begin || end - begin > 3)
            return NULL;
        tens += down ? -(Py_ssize_t)power : (Py_ssize_t)power;
    }
    if (count > MOST_DIGITS || whole > (UINT64_C(1) << DBL_MANT_DIG) || tens < -MOST_POWER || tens > MOST_POWER)
        return NULL;
    double found = tens < 0 ? (double)whole / POWERS[-tens] : (double)whole * POWERS[tens];
    *value = negative ? -found : found;
    return end;
}

/* Reads so many numbers, with commas between them and nothing else, from a text into `to`, or says that it does not (0). */
static int numbers(const char *text, Py_ssize_t size, Py_ssize_t count, int is_double, char *to)
{
    const char *at = text;
    for (Py_ssize_t done = 0; done < count; done++) {
        double value;
        if (done && *at++ != ',')
            return 0;
        while (is_space(*at))
            at++;
        at = number(at, &value);
        if (at == NULL)
            return 0;
        while (is_space(*at))
            at++;
        if (is_double) {
            ((double *)to)[done] = value;
        } else {
            float narrow = (float)value;
            if (isinf(narrow))
                return 0;
            ((float *)to)[done] = narrow;
        }
    }
    return at == text + size;
}

static PyObject *read_short(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    (void)self;
    if (given != 3 || !PyList_Check(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "read_short(texts: list[bytes], count: int, itemsize: int)");
        return NULL;
    }
    PyObject *texts = arguments[0];
    Py_ssize_t rows = PyList_Size(texts), count = PyLong_AsSsize_t(arguments[1]), size = PyLong_AsSsize_t(arguments[2]);
    if (PyErr_Occurred())
        return NULL;
    int is_double = size == sizeof(double);
    if (count < 1 || (!is_double && size != sizeof(float)) || (rows && count > PY_SSIZE_T_MAX / size / rows - 64)) {
        PyErr_SetString(PyExc_ValueError, "count is at least 1, and itemsize 4 or 8");
        return NULL;
    }
    PyObject *found = PyBytes_FromStringAndSize(NULL, rows * count * size);
    if (found == NULL)
        return NULL;
    char *to = PyBytes_AsString(found);
    for (Py_ssize_t row = 0; row < rows; row++) {
        char *text;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyList_GetItem(texts, row), &text, &length) < 0) {
            Py_DECREF(found);
            return NULL;
        }
        if (!numbers(text, length, count, is_double, to + row * count * size)) {
            Py_DECREF(found);
            Py_RETURN_NONE;
        }
    }
    return found;
}

PyDoc_STRVAR(read_short_doc,
             "read_short(texts, count, itemsize)\n--\n\n"
             "The numbers of texts, `count` in each with commas between them, as floats of 4 or 8 bytes one after the other.\n\n"
             "None: at least one text has another number of them, a number that is too long for this reader or too large for\n"
             "its float, or something that is no number of JSON.");

static PyMethodDef METHODS[] = {
    {"read_short", (PyCFunction)(void (*)(void))read_short, METH_FASTCALL, read_short_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_numbers",
    .m_doc = "Short numbers in JSON to floats.",
    .m_methods = METHODS,
};

PyMODINIT_FUNC PyInit__numbers(void) { return PyModuleDef_Init(&MODULE); }
