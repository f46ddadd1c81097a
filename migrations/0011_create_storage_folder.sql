-- depends: 0010_create_read_functions

-- Which storage folder holds the files of this database: the id that is also in the folder's file `.reportd`.
CREATE TABLE storage_folder (
    id UUID NOT NULL,
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one)
);
